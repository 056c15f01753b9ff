//! The loop of a session: hints and commands in, what [`super::cycle`] decides is done, the status is published.
//!
//! One task owns everything; reading the tree and making frames happen on blocking threads that are waited for. While
//! something is being done, commands wait for it, except to stop. [`act`] is what is done.

mod act;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use banger_proto::guest::v1::{FailureClass, Welcome};
use tokio::sync::{mpsc, oneshot, watch};

use super::cycle::{Cycle, Millis, Moved, Next, Polling, Waiting};
use super::events::{Events, Hint};
use super::git::{GitLook, GitPlaces, GitStamp};
use super::mirror::Mirror;
use super::prefer::PreferError;
use super::safety::{Halt, RootIdentity};
use super::status::{Batch, Flushed, State, Status, Watching};
use super::{Command, FlushError, Held, Reach, Side, WatchError, WatchOptions};
use crate::digest::TreeDigest;
use crate::overlay::again::{GitSide, Observer};
use crate::overlay::{OverlayError, repository};
use crate::path::TreePath;
use crate::prepare::PrepareError;
use crate::prepare::link::Link;
use crate::ssh::Connection;

/// How often a lock of git is looked at, where nothing tells that it went.
const LOCK_LOOK: Millis = 25;
/// How often it is looked whether a guest that refused is gone.
const REFUSAL_LOOK: Duration = Duration::from_millis(500);

type FlushReply = oneshot::Sender<Result<(Flushed, Option<Held>), FlushError>>;

/// Who is told.
pub struct Outlets {
    pub publish: watch::Sender<Arc<Status>>,
    pub batches: Option<mpsc::UnboundedSender<Batch>>,
}

struct Waiter {
    hold: bool,
    reply: FlushReply,
}

/// Why something was not done.
enum Trouble {
    Halt(Halt),
    /// The tree cannot be read, or not now.
    Tree(OverlayError),
    /// The connection or the receiver.
    Link(PrepareError),
    Unreachable(String),
    /// Git was at work meanwhile: once more when it is done.
    Torn,
    /// What was put right in the guest did not stay so.
    Restless,
}

/// See the module.
pub struct Session {
    options: WatchOptions,
    reach: Arc<dyn Reach>,
    outlets: Outlets,
    began: Instant,
    root: PathBuf,
    identity: RootIdentity,
    places: GitPlaces,
    /// Away while a blocking thread works with it.
    observer: Option<Observer>,
    events: Events,
    directories: Vec<TreePath>,
    watching: Watching,
    cycle: Cycle,
    mirror: Mirror,
    connection: Option<Connection>,
    link: Option<Link>,
    /// What the receiver knows about git.
    welcome: Welcome,
    /// The git side of the last batch that had one.
    sent_git: Option<GitStamp>,
    /// The guest's index has to be made anew in any case.
    reread_git: bool,
    seen_git: GitStamp,
    waiters: Vec<Waiter>,
    /// An empty tree was asked for.
    may_be_empty: bool,
    /// Most files there were lately, and when.
    peak: (usize, Millis),
    /// Barriers in a row after which the digests were not equal.
    mismatches: u32,
    generation: u64,
    last_sync: Option<SystemTime>,
    problem: Option<String>,
    overflows: u64,
    connections: u64,
    head_commit: Option<String>,
    tree: Option<TreeDigest>,
    hints: Vec<Hint>,
    release: Option<mpsc::WeakUnboundedSender<Command>>,
}

impl Session {
    /// Reads the tree once and begins to watch it.
    pub async fn begin(options: WatchOptions, reach: Arc<dyn Reach>, outlets: Outlets) -> Result<Self, WatchError> {
        let wanted = options.clone();
        let observed = tokio::task::spawn_blocking(move || {
            let opened = repository::open(&wanted.path)?;
            let mut observer = Observer::new(&opened.root, &wanted.observe, wanted.memory_file);
            let overlay = observer.observe(GitSide::Read)?;
            let directories = observer.directories();
            Ok((observer, overlay, directories))
        });
        let observed = observed.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
        let (observer, overlay, directories) =
            observed.map_err(|source| WatchError::Observe { path: options.path.clone(), source })?;
        let root = overlay.root.clone();
        let places = GitPlaces::of(&overlay.repository);
        let events = Events::open(&root, places.clone(), options.budget)
            .map_err(|source| WatchError::Events { path: root.clone(), source })?;
        let identity = identity(&root).ok_or_else(|| WatchError::Observe {
            path: root.clone(),
            source: OverlayError::Missing { path: root.clone() },
        })?;
        let mut session = Self {
            cycle: Cycle::new(options.tuning),
            options,
            reach,
            outlets,
            began: Instant::now(),
            root,
            identity,
            seen_git: places.look().stamp,
            places,
            observer: Some(observer),
            events,
            directories,
            watching: Watching::default(),
            mirror: Mirror::default(),
            connection: None,
            link: None,
            welcome: Welcome::default(),
            sent_git: None,
            reread_git: true,
            waiters: Vec::new(),
            may_be_empty: false,
            peak: (0, 0),
            mismatches: 0,
            generation: 0,
            last_sync: None,
            problem: None,
            overflows: 0,
            connections: 0,
            head_commit: None,
            tree: None,
            hints: Vec::new(),
            release: None,
        };
        session.rewatch();
        session.publish(None);
        Ok(session)
    }

    /// Until it is stopped or nobody is left who could.
    pub async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Command>,
        release: mpsc::WeakUnboundedSender<Command>,
    ) {
        self.release = Some(release);
        loop {
            self.take_hints();
            self.look_at_git();
            self.refuse_waiters();
            self.cycle.set_barrier(if self.waiters.is_empty() { Waiting::No } else { Waiting::Yes });
            let next = self.cycle.next(self.now());
            if let Next::Wait(until) = next {
                self.publish(None);
                match self.wait(until, &mut inbox).await {
                    Some(Command::Stop) => break,
                    Some(command) => self.obey(command).await,
                    None => {}
                }
                continue;
            }
            self.publish(Some(State::Sending));
            let mut later = Vec::new();
            let stopped = {
                let mut work = std::pin::pin!(self.act(next));
                loop {
                    tokio::select! {
                        () = &mut work => break false,
                        command = inbox.recv() => match command {
                            None | Some(Command::Stop) => break true,
                            Some(command) => later.push(command),
                        }
                    }
                }
            };
            if stopped {
                break;
            }
            for command in later {
                self.obey(command).await;
            }
        }
        for waiter in self.waiters.drain(..) {
            let _ = waiter.reply.send(Err(FlushError::Ended));
        }
        if self.tree.is_some() {
            self.tree = Some(self.mirror.tree_digest());
            self.publish(None);
        }
        if let Some(link) = self.link.take() {
            // Its receiver writes what it remembers; a guest that does not answer is not waited for.
            let _ = tokio::time::timeout(Duration::from_secs(2), link.end()).await;
        }
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Until something happens. `None`: it may be time, or there are hints, or the guest is gone.
    async fn wait(&mut self, until: Option<Millis>, inbox: &mut mpsc::UnboundedReceiver<Command>) -> Option<Command> {
        let idle = self.cycle.is_paused() || self.cycle.halted().is_some();
        let until =
            if self.cycle.is_locked() { Some(until.unwrap_or(Millis::MAX).min(self.now() + LOCK_LOOK)) } else { until };
        let deadline = until.map(|until| self.began + Duration::from_millis(until));
        let sleep = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let events = &self.events;
        let told = async {
            // Nothing is done with hints now; what the kernel cannot keep is an overflow.
            if idle || events.ready().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let link = &mut self.link;
        let lost = async {
            match link {
                Some(link) => match link.reply().await {
                    Ok(_) => PrepareError::Unexpected { expected: "nothing before it is asked" },
                    Err(error) => error,
                },
                None => std::future::pending().await,
            }
        };
        let refusing = self.cycle.halted().is_some_and(Halt::is_of_the_guest);
        let connection = &self.connection;
        let gone = async {
            loop {
                tokio::time::sleep(REFUSAL_LOOK).await;
                if connection.as_ref().is_none_or(Connection::is_closed) {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            command = inbox.recv() => Some(command.unwrap_or(Command::Stop)),
            () = told => None,
            () = gone, if refusing => {
                self.connection = None;
                self.cycle.forget_refusal(self.now());
                None
            }
            error = lost => {
                self.lose(error);
                None
            }
            () = sleep => None,
        }
    }

    async fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Flush { hold, reply } => self.waiters.push(Waiter { hold, reply }),
            Command::Release => self.cycle.release(),
            Command::Pause => self.cycle.pause(),
            Command::Resume => {
                self.may_be_empty |= matches!(self.cycle.halted(), Some(Halt::RootEmptied { .. }));
                self.problem = None;
                self.cycle.resume(now);
                // The root may be another directory now; its watches went with the old one.
                if identity(&self.root) == Some(self.identity) {
                    self.rewatch();
                } else {
                    self.adopt_root();
                }
            }
            Command::Prefer { side, path, reply } => {
                let outcome = self.prefer(side, path).await;
                let _ = reply.send(outcome);
            }
            Command::Show { shown } => {
                self.publish(None);
                let _ = shown.send(());
            }
            // Taken care of where commands are received.
            Command::Stop => {}
        }
    }

    /// Somebody says that what is there now is the tree.
    fn adopt_root(&mut self) {
        let Some(identity) = identity(&self.root) else { return };
        match Events::open(&self.root, self.places.clone(), self.options.budget) {
            Ok(events) => {
                self.events = events;
                self.identity = identity;
                self.rewatch();
            }
            Err(error) => self.problem = Some(format!("changes are not told: {error}")),
        }
    }

    /// Takes what the kernel told.
    fn take_hints(&mut self) {
        if self.cycle.is_paused() || self.cycle.halted().is_some() {
            return;
        }
        let mut hints = std::mem::take(&mut self.hints);
        if let Err(error) = self.events.drain(&mut hints) {
            self.problem = Some(format!("changes are not told: {error}"));
            hints.push(Hint::Everything);
        }
        let now = self.now();
        let mut below = BTreeSet::new();
        for hint in hints.drain(..) {
            match hint {
                Hint::At(path) => {
                    if self.concerns(&path) {
                        self.cycle.hint(path, now);
                    }
                }
                Hint::Below(path) => {
                    below.insert(path);
                }
                Hint::Everything => {
                    self.overflows += 1;
                    self.cycle.hint_tree(now);
                }
                Hint::Root => self.cycle.hint_tree(now),
                // Git is looked at in every turn.
                Hint::Git => {}
            }
        }
        self.hints = hints;
        if !below.is_empty() {
            if self.options.observe.include_untracked {
                self.cycle.hint_tree(now);
            }
            // First watched, then looked at.
            self.rewatch();
            for path in below {
                self.hint_below(&path);
                if self.concerns(&path) {
                    self.cycle.hint(path, now);
                }
            }
        }
    }

    fn hint_below(&mut self, directory: &TreePath) {
        let now = self.now();
        let tracked = self.observer.as_ref().map(|observer| observer.tracked_below(directory)).unwrap_or_default();
        for path in tracked.into_iter().chain(self.mirror.below(directory)) {
            self.cycle.hint(path, now);
        }
    }

    /// Whether a change there could be one of the tree.
    fn concerns(&self, path: &TreePath) -> bool {
        self.options.observe.include_untracked
            || self.mirror.get(path).is_some()
            || self.observer.as_ref().is_none_or(|observer| observer.tracks(path))
    }

    /// Watches what is to be watched. What was not before may have changed before.
    fn rewatch(&mut self) {
        let now = self.now();
        match self.events.watch(&self.directories) {
            Ok(added) => {
                self.watching = Watching::Events { directories: self.events.watched() };
                self.cycle.set_polling(Polling::No, now);
                for directory in added {
                    self.hint_below(&directory);
                }
            }
            Err(over) => {
                self.watching = Watching::Polling { needed: over.needed, budget: over.budget };
                self.cycle.set_polling(Polling::Yes, now);
            }
        }
    }

    fn look_at_git(&mut self) {
        let look = self.places.look();
        self.noted(&look);
    }

    fn noted(&mut self, look: &GitLook) {
        let now = self.now();
        let moved = (look.stamp != self.seen_git).then_some(Moved);
        self.cycle.git(look.locked, look.under_way, moved, now);
        self.seen_git = look.stamp.clone();
    }

    /// Nobody waits for what cannot come.
    fn refuse_waiters(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let refusal = if let Some(halt) = self.cycle.halted() {
            FlushError::Halted { why: halt.to_string(), way_on: halt.way_on() }
        } else if self.cycle.is_paused() {
            FlushError::Paused
        } else if self.cycle.has_stale_lock(self.now()) {
            FlushError::StaleLock
        } else {
            return;
        };
        for waiter in self.waiters.drain(..) {
            let _ = waiter.reply.send(Err(refusal.clone()));
        }
    }

    fn grant(&mut self, waiters: Vec<Waiter>, flushed: &Flushed) {
        let mut replies = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            let sender = self.release.as_ref().and_then(mpsc::WeakUnboundedSender::upgrade);
            let held = match sender {
                Some(commands) if waiter.hold => {
                    self.cycle.hold();
                    Some(Held { commands })
                }
                _ => None,
            };
            replies.push((waiter.reply, held));
        }
        // Whoever was told that both sides are equal finds a status that knows of it.
        self.publish(None);
        for (reply, held) in replies {
            // Nobody there any more: what is held is released by being dropped.
            let _ = reply.send(Ok((flushed.clone(), held)));
        }
    }

    fn lose(&mut self, error: PrepareError) {
        self.link = None;
        if self.connection.as_ref().is_some_and(Connection::is_closed) {
            self.connection = None;
        }
        let now = self.now();
        self.cycle.disconnected(now);
        if let PrepareError::Guest { class, chain } = &error {
            match class {
                FailureClass::NoSpace => return self.cycle.halt(Halt::GuestDiskFull),
                FailureClass::ReadOnly | FailureClass::Permission | FailureClass::Occupied | FailureClass::Version => {
                    return self.cycle.halt(Halt::GuestRefuses { why: chain.join(": ") });
                }
                FailureClass::Busy
                | FailureClass::Protocol
                | FailureClass::Io
                | FailureClass::NotFound
                | FailureClass::NoGit
                | FailureClass::Unspecified => {}
            }
        }
        if matches!(error, PrepareError::Content { .. }) {
            self.cycle.failed(now);
        }
        self.problem = Some(in_words(&error));
    }

    fn publish(&self, doing: Option<State>) {
        let now = self.now();
        let state = if let Some(halt) = self.cycle.halted() {
            State::Halted { why: halt.to_string(), way_on: halt.way_on() }
        } else if self.cycle.is_paused() {
            State::Paused
        } else if let Some(doing) = doing {
            if self.cycle.is_connected() { doing } else { State::Connecting }
        } else if self.cycle.is_held_by_git(now) {
            State::HeldByGit
        } else if !self.cycle.is_connected() {
            State::Connecting
        } else if self.cycle.is_held() {
            State::HeldByCommand
        } else if self.cycle.is_dirty() {
            State::Sending
        } else {
            State::InStep
        };
        let status = Status {
            state,
            watching: self.watching,
            generation: self.generation,
            files: self.mirror.len(),
            last_sync: self.last_sync,
            pending: self.cycle.pending(),
            conflicts: self.mirror.conflicts(),
            problem: self.problem.clone(),
            guest_history: self.welcome.git_moved,
            stale_lock: self.cycle.has_stale_lock(now),
            overflows: self.overflows,
            connections: self.connections,
            head_commit: self.head_commit.clone(),
            tree: self.tree,
        };
        self.outlets.publish.send_if_modified(|old| {
            let different = **old != status;
            if different {
                *old = Arc::new(status);
            }
            different
        });
    }

    /// What a batch was, for whoever listens.
    fn report(&self, batch: Batch) {
        if let Some(batches) = &self.outlets.batches {
            // Nobody listens any more.
            let _ = batches.send(batch);
        }
    }

    async fn prefer(&mut self, side: Side, path: TreePath) -> Result<(), PreferError> {
        if !self.mirror.is_conflict(&path) {
            return Err(PreferError::NoConflict { path });
        }
        let not_now = |why: &str| PreferError::NotNow { why: why.to_owned() };
        if self.cycle.is_held() {
            return Err(not_now("a command runs on the guest's tree"));
        }
        if self.link.is_none() || self.cycle.halted().is_some() {
            return Err(not_now("it is not connected"));
        }
        let settled = match side {
            Side::Host => self.replace(BTreeSet::from([path.clone()])).await,
            Side::Guest => return self.take_over(path).await,
        };
        match settled {
            Ok(()) if self.mirror.is_conflict(&path) => Err(PreferError::Kept { path }),
            Ok(()) => Ok(()),
            Err(trouble) => {
                let why = self.trouble(trouble);
                Err(PreferError::NotNow { why })
            }
        }
    }
}

fn identity(root: &Path) -> Option<RootIdentity> {
    // The root's own name may have been replaced by a link elsewhere; that is another directory.
    let stat = rustix::fs::stat(root).ok()?;
    let is_directory = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    is_directory.then_some(RootIdentity { device: stat.st_dev, inode: stat.st_ino })
}

fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}
