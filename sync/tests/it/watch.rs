//! Sessions that follow a real repository through a real SSH server; what each part of them claims is below.

mod barrier;
mod edits;
pub mod faults;
mod git;
mod guest_work;
mod model;
mod stops;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use banger_sync::digest::TreeDigest;
use banger_sync::overlay::{ObserveOptions, observe};
use banger_sync::path::TreePath;
use banger_sync::prepare::WORTH_ASKING;
use banger_sync::ssh::{Connection, SshTarget};
use banger_sync::verify::{Difference, verify};
use banger_sync::watch::cycle::Tuning;
use banger_sync::watch::{Batch, Mode, Reach, Reaching, State, Status, Unreachable, Watch, WatchOptions, start};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::prepare::command;
use crate::repo::Repo;
use crate::sshd::Sshd;

/// A bound for everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reaches a server, unless it is told not to.
pub struct Way {
    target: SshTarget,
    last: Mutex<Option<Connection>>,
    pub barred: AtomicBool,
}

impl Reach for Way {
    fn connect(&self) -> Reaching<'_> {
        Box::pin(async {
            if self.barred.load(Ordering::Relaxed) {
                return Err(Unreachable { why: "the way is barred".into() });
            }
            let connected = Connection::connect(&self.target).await;
            let connection = connected.map_err(|error| Unreachable { why: error.to_string() })?;
            *self.last.lock().unwrap() = Some(connection.clone());
            Ok(connection)
        })
    }
}

impl Way {
    pub fn to(sshd: &Sshd) -> Arc<Self> {
        Arc::new(Self { target: sshd.target.clone(), last: Mutex::new(None), barred: AtomicBool::new(false) })
    }

    /// Cuts the connection the session made last.
    pub async fn cut(&self) {
        let last = self.last.lock().unwrap().take();
        if let Some(connection) = last {
            connection.close().await;
        }
    }
}

pub struct Following {
    pub repo: Repo,
    pub guest: PathBuf,
    pub watch: Watch,
    pub way: Arc<Way>,
    pub batches: mpsc::UnboundedReceiver<Batch>,
    running: JoinHandle<()>,
}

/// How a session of a test is to be.
#[derive(Default, Clone)]
pub struct Wanted {
    pub mode: Mode,
    pub include_untracked: bool,
    pub budget: Option<usize>,
    pub tuning: Tuning,
    /// Instead of what is usual.
    pub worth_asking: Option<u64>,
    /// Instead of the plain receiver.
    pub command: Option<String>,
    /// Instead of [`guest_of`].
    pub guest: Option<PathBuf>,
}

pub fn guest_of(repo: &Repo) -> PathBuf {
    repo.place.path().join("guest")
}

impl Following {
    pub async fn start(sshd: &Sshd, repo: Repo, wanted: Wanted) -> Self {
        let guest = wanted.guest.clone().unwrap_or_else(|| guest_of(&repo));
        let way = Way::to(sshd);
        let (watch, running, batches) = launch(&repo.root, &guest, &way, wanted).await;
        Self { repo, guest, watch, way, batches, running }
    }

    /// Another session on the same two trees, as after its process was ended and started again.
    pub async fn restart(&mut self, wanted: Wanted) {
        self.watch.stop();
        tokio::time::timeout(PATIENCE, &mut self.running).await.expect("it stops").unwrap();
        (self.watch, self.running, self.batches) = launch(&self.repo.root, &self.guest, &self.way, wanted).await;
    }

    pub fn options(&self, include_untracked: bool) -> ObserveOptions {
        ObserveOptions { include_untracked, ..ObserveOptions::default() }
    }

    pub fn status(&self) -> Arc<Status> {
        self.watch.status()
    }

    /// Waits until `holds` is true of the status.
    pub async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        let began = Instant::now();
        let mut watch = self.watch.clone();
        while !holds(&watch.status()) {
            let left = PATIENCE.saturating_sub(began.elapsed());
            if tokio::time::timeout(left, watch.changed()).await.is_err() {
                panic!("not in {PATIENCE:?}: {what}; {:#?}", watch.status());
            }
        }
    }

    /// Waits until the guest's file has this content (`None`: is not there).
    pub async fn guest_has(&self, path: &str, content: Option<&[u8]>) {
        let place = self.guest.join(path);
        let has = || std::fs::read(&place).ok().as_deref() == content;
        eventually(&format!("{path} in the guest"), has, || format!("{:#?}", self.status())).await;
    }

    /// In step, proved by both digests, by the host's tree as a fresh observation sees it, and by a guest that reads
    /// every file again.
    pub async fn assert_in_step(&self, context: &str) {
        let flushed = tokio::time::timeout(PATIENCE, self.watch.flush()).await;
        let flushed = flushed.unwrap_or_else(|_| panic!("{context}: no barrier in {PATIENCE:?}: {:#?}", self.status()));
        let flushed = flushed.unwrap_or_else(|error| panic!("{context}: {error}: {:#?}", self.status()));
        assert_eq!(flushed.conflicts, [], "{context}");
        assert_eq!(flushed.guest, flushed.host, "{context}");
        assert_eq!(flushed.host, self.host_digest(false), "{context}");
        assert_eq!(self.differences(false).await, [], "{context}");
    }

    pub fn host_digest(&self, include_untracked: bool) -> TreeDigest {
        observe(&self.repo.root, &self.options(include_untracked)).unwrap().tree_digest()
    }

    pub async fn differences(&self, include_untracked: bool) -> Vec<Difference> {
        let connection = Connection::connect(&self.way.target).await.unwrap();
        let differences = self.differences_over(&connection, include_untracked).await;
        connection.close().await;
        differences
    }

    pub async fn differences_over(&self, connection: &Connection, include_untracked: bool) -> Vec<Difference> {
        let overlay = observe(&self.repo.root, &self.options(include_untracked)).unwrap();
        verify(connection, &overlay, &command(&self.guest)).await.unwrap().differences
    }

    /// Ends it and hands the repository back.
    pub async fn stop(self) -> (Repo, PathBuf) {
        self.watch.stop();
        tokio::time::timeout(PATIENCE, self.running).await.expect("it stops").unwrap();
        (self.repo, self.guest)
    }
}

async fn launch(
    root: &Path,
    guest: &Path,
    way: &Arc<Way>,
    wanted: Wanted,
) -> (Watch, JoinHandle<()>, mpsc::UnboundedReceiver<Batch>) {
    let (sender, batches) = mpsc::unbounded_channel();
    let options = WatchOptions {
        path: root.to_owned(),
        observe: ObserveOptions { include_untracked: wanted.include_untracked, ..ObserveOptions::default() },
        guest_path: guest.to_str().unwrap().to_owned(),
        command: wanted.command.unwrap_or_else(|| command(guest)),
        mode: wanted.mode,
        budget: wanted.budget,
        memory_file: None,
        tuning: wanted.tuning,
        worth_asking: wanted.worth_asking.unwrap_or(WORTH_ASKING),
    };
    let reach: Arc<dyn Reach> = way.clone();
    let (watch, running) = start(options, reach, Some(sender)).await.unwrap();
    (watch, running, batches)
}

pub fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

/// A bounded wait on a predicate.
pub async fn eventually(what: &str, holds: impl Fn() -> bool, state: impl Fn() -> String) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}; {}", state());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// As editors do it.
pub fn save(root: &Path, name: &str, content: &[u8]) {
    static SAVES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let temporary = root.join(format!("{name}.saving-{}", SAVES.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&temporary, content).unwrap();
    std::fs::rename(temporary, root.join(name)).unwrap();
}

pub fn is_in_step(status: &Status) -> bool {
    status.state == State::InStep
}

/// A number from the environment, for runs longer than those of every day.
pub fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
