//! Random sequences of everything people, git and faults do, against a real server: afterwards both sides are equal,
//! or what differs is told as a conflict, and no edit of the guest is lost.
//!
//! `BANGER_MODEL_SEQUENCES`, `BANGER_MODEL_OPERATIONS` and `BANGER_MODEL_SEED` make it longer and repeat it,
//! `BANGER_MODEL_JOBS` is how many run side by side; a failure names its seed.

mod faults;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use banger_sync::ssh::Connection;

use self::faults::GuestDisk;
use super::{Following, Wanted, guest_of, number, save};
use crate::prepare::command_with_pid;
use crate::repo::{Repo, git_command};
use crate::sshd::Sshd;

/// Few, so that operations meet.
const NAMES: &[&str] = &["a", "A", "b", "c", "d/a", "d/b", "d/e/a", "D/a", "e", "e/a", "long name"];
const DIRECTORIES: &[&str] = &["d", "D", "d/e", "e"];

/// The same sequence for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % below
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len())]
    }
}

struct Model {
    dice: Dice,
    session: Following,
    /// What no fault cuts: whoever looks whether both sides are equal.
    judge: Connection,
    wanted: Wanted,
    pid_file: std::path::PathBuf,
    /// Where the guest's disk can be filled.
    disk: Option<GuestDisk>,
    guest_edits: BTreeMap<String, Vec<u8>>,
    log: Vec<String>,
    counter: usize,
}

impl Model {
    fn content(&mut self) -> Vec<u8> {
        self.counter += 1;
        let times = [1, 3, 400, 20_000][self.dice.roll(4)];
        format!("{}\n", self.counter).repeat(times).into_bytes()
    }

    /// Whatever cannot be done as things are is nothing.
    async fn step(&mut self) {
        let root = self.session.repo.root.clone();
        let name = self.dice.of(NAMES);
        let other = self.dice.of(NAMES);
        let directory = self.dice.of(DIRECTORIES);
        let place = root.join(name);
        let done = match self.dice.roll(100) {
            0..18 => {
                let content = self.content();
                let _ = place.parent().map(std::fs::create_dir_all);
                let _ = std::fs::write(&place, content);
                format!("write {name}")
            }
            18..26 => {
                let content = self.content();
                if place.is_file() {
                    save(&root, name, &content);
                }
                format!("save {name}")
            }
            26..31 => {
                if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(&place) {
                    let _ = std::io::Write::write_all(&mut file, b"appended\n");
                }
                format!("append {name}")
            }
            31..34 => {
                if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&place) {
                    let _ = file.set_len(2);
                }
                format!("truncate {name}")
            }
            34..40 => {
                let _ = std::fs::rename(&place, root.join(other));
                format!("rename {name} {other}")
            }
            40..44 => {
                let to = self.dice.of(DIRECTORIES);
                let _ = std::fs::rename(root.join(directory), root.join(to));
                format!("rename directory {directory} {to}")
            }
            44..47 => {
                let _ = std::fs::rename(&place, root.join("swapping"));
                let _ = std::fs::rename(root.join(other), &place);
                let _ = std::fs::rename(root.join("swapping"), root.join(other));
                format!("swap {name} {other}")
            }
            47..51 => {
                let mode = if self.dice.roll(2) == 0 { 0o755 } else { 0o644 };
                if place.is_file() {
                    self.session.repo.chmod(name, mode);
                }
                format!("chmod {name}")
            }
            51..54 => {
                if place.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
                    std::fs::remove_file(&place).unwrap();
                }
                let _ = symlink(format!("to-{}", self.counter), &place);
                self.counter += 1;
                format!("link {name}")
            }
            54..60 => {
                let _ = std::fs::remove_file(&place);
                format!("delete {name}")
            }
            60..62 => {
                let _ = std::fs::remove_dir_all(root.join(directory));
                format!("delete directory {directory}")
            }
            62..64 => {
                let _ = std::fs::create_dir_all(root.join(directory));
                format!("mkdir {directory}")
            }
            64..80 => self.git(&root),
            80..88 => self.guest_edit(name),
            88..90 => {
                self.session.way.cut().await;
                "cut the connection".into()
            }
            90..92 => {
                let pid = std::fs::read_to_string(&self.pid_file).unwrap_or_default();
                let _ = std::process::Command::new("kill").args(["-9", pid.trim()]).output();
                "kill the receiver".into()
            }
            92..93 => {
                self.session.watch.pause();
                "pause".into()
            }
            93..94 => {
                self.session.watch.resume();
                "resume".into()
            }
            94..95 => {
                self.session.way.barred.store(true, Ordering::Relaxed);
                "bar the way".into()
            }
            95..97 => {
                self.session.way.barred.store(false, Ordering::Relaxed);
                "clear the way".into()
            }
            97 => {
                self.session.restart(self.wanted.clone()).await;
                "restart the session".into()
            }
            98 => self.fault(),
            _ => {
                let pause = Duration::from_millis(self.dice.roll(30) as u64);
                tokio::time::sleep(pause).await;
                format!("wait {pause:?}")
            }
        };
        self.log.push(done);
    }

    /// The rare ones.
    fn fault(&mut self) -> String {
        match (self.dice.roll(3), &self.disk) {
            (0, _) => {
                self.session.watch.pause();
                faults::flood(&self.session.repo.root);
                self.session.watch.resume();
                "more events than the kernel keeps".into()
            }
            (1, Some(disk)) => {
                disk.fill();
                "fill the guest's disk".into()
            }
            (_, Some(disk)) => {
                disk.free();
                "free the guest's disk".into()
            }
            (_, None) => "no disk to fill".into(),
        }
    }

    fn git(&mut self, root: &Path) -> String {
        let branch = ["main", "one", "two"][self.dice.roll(3)];
        let message = self.counter.to_string();
        let steps: Vec<Vec<&str>> = match self.dice.roll(9) {
            0 => vec![vec!["add", "-A"]],
            1 | 2 => vec![vec!["add", "-A"], vec!["commit", "-q", "--allow-empty", "-m", &message]],
            3 => vec![vec!["checkout", "-q", "-f", branch]],
            4 => vec![vec!["checkout", "-q", "-B", branch]],
            5 => vec![vec!["stash", "-q", "-u"]],
            6 => vec![vec!["stash", "pop", "-q"]],
            7 => vec![vec!["reset", "-q", "--hard", "HEAD~1"]],
            _ => vec![vec!["rebase", "-q", branch], vec!["rebase", "--abort"]],
        };
        for step in &steps {
            // Many are not possible as things are.
            let ended = git_command(root).args(step).output().unwrap();
            if ended.status.signal().is_some() {
                // 2.47 calls some merges a bug of its own and aborts; its user does what the session's hint says.
                let _ = std::fs::remove_file(root.join(".git/index.lock"));
            }
        }
        format!("git {steps:?}")
    }

    fn guest_edit(&mut self, name: &str) -> String {
        self.counter += 1;
        let content = format!("the guest's {}\n", self.counter).into_bytes();
        let place = self.session.guest.join(name);
        if !place.is_symlink() && place.is_file() {
            // As an editor does it: what is there at any moment is one or the other.
            let temporary = self.session.guest.join(format!(".git/guest-edit-{}", self.counter));
            if std::fs::write(&temporary, &content).is_ok() && std::fs::rename(&temporary, &place).is_ok() {
                self.guest_edits.insert(name.to_owned(), content);
            }
        }
        format!("the guest edits {name}")
    }

    async fn settle(&mut self, context: &str, include_untracked: bool) {
        self.session.way.barred.store(false, Ordering::Relaxed);
        self.disk.iter().for_each(GuestDisk::free);
        // Also what stopped by itself: emptying the tree is one of the things that happen here.
        let mut flushed = None;
        for _ in 0..20 {
            self.session.watch.resume();
            match tokio::time::timeout(super::PATIENCE, self.session.watch.flush()).await {
                Ok(Ok(done)) => {
                    flushed = Some(done);
                    break;
                }
                Ok(Err(banger_sync::watch::FlushError::Halted { .. })) => {}
                other => panic!("{context}: {other:?}\n{:#?}\n{}", self.session.status(), self.log.join("\n")),
            }
        }
        let log = self.log.join("\n");
        let flushed = flushed.unwrap_or_else(|| panic!("{context}: halts again and again\n{log}"));
        assert_eq!(flushed.host, self.session.host_digest(include_untracked), "{context}\n{log}");
        if flushed.conflicts.is_empty() {
            assert_eq!(flushed.guest, flushed.host, "{context}\n{log}");
        }
        let conflicts: Vec<String> = flushed.conflicts.iter().map(|one| one.path.to_string()).collect();
        for difference in self.session.differences_over(&self.judge, include_untracked).await {
            let path = difference.path.to_string();
            assert!(conflicts.contains(&path), "{context}: {difference:?} is told nowhere: {conflicts:?}\n{log}");
        }
        for (name, content) in &self.guest_edits {
            let there = std::fs::read(self.session.guest.join(name)).ok();
            assert_eq!(
                there.as_ref().map(|bytes| String::from_utf8_lossy(bytes)),
                Some(String::from_utf8_lossy(content)),
                "{context}: the guest's edit of {name} is lost\n{log}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_sequences_end_equal_or_in_told_conflicts() {
    let Some(sshd) = Sshd::start() else { return };
    let sshd = Arc::new(sshd);
    let sequences = number("BANGER_MODEL_SEQUENCES", 50);
    let operations = number("BANGER_MODEL_OPERATIONS", 200);
    let first = number("BANGER_MODEL_SEED", 1);
    let jobs = Arc::new(tokio::sync::Semaphore::new(number("BANGER_MODEL_JOBS", 4)));
    if GuestDisk::mount().is_none() {
        eprintln!("skipped: a full guest disk, as only root may mount one");
    }
    let mut running = tokio::task::JoinSet::new();
    for seed in first..first + sequences {
        let permit = jobs.clone().acquire_owned().await.unwrap();
        let sshd = sshd.clone();
        running.spawn(async move {
            sequence(&sshd, seed, operations).await;
            drop(permit);
        });
        while let Some(ended) = running.try_join_next() {
            ended.unwrap();
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

async fn sequence(sshd: &Sshd, seed: usize, operations: usize) {
    let repo = Repo::new_in_memory();
    repo.write("a", b"0\n");
    repo.write("d/a", b"0\n");
    repo.write("d/e/a", b"0\n");
    repo.commit("something to begin with");
    let disk = GuestDisk::mount();
    let guest = disk.as_ref().map_or_else(|| guest_of(&repo), |disk| disk.path().join("guest"));
    let pid_file = repo.place.path().join("pid");
    let command = command_with_pid(&guest, &pid_file);
    let include_untracked = seed.is_multiple_of(2);
    // Files are small here, and what git has is to be asked for as well.
    let worth_asking = (seed % 4 >= 2).then_some(1);
    let (command, guest) = (Some(command), Some(guest));
    let wanted = Wanted { include_untracked, worth_asking, command, guest, ..Wanted::default() };
    let session = Following::start(sshd, repo, wanted.clone()).await;
    let dice = Dice((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (guest_edits, log) = (BTreeMap::new(), Vec::new());
    let judge = sshd.connect().await;
    let mut model = Model { dice, session, judge, wanted, pid_file, disk, guest_edits, log, counter: 0 };
    for operation in 0..operations {
        model.step().await;
        if operation % 25 == 24 {
            model.settle(&format!("seed {seed}, operation {operation}"), include_untracked).await;
        }
    }
    model.settle(&format!("seed {seed}, at the end"), include_untracked).await;
    model.session.stop().await;
    model.judge.close().await;
}
