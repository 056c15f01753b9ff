//! Mutated conversations for the receiver, on stable Rust: no panic, nothing outside the root, whatever arrives.
//!
//! The same entry points as `sync/fuzz`, with a fixed sequence of random numbers and a corpus that is a real prepare.

use std::io::Cursor;
use std::path::Path;

use banger_sync::overlay::{ObserveOptions, observe};
use banger_sync::receiver;

use crate::crash::recorded;
use crate::prepare::prepare_into;
use crate::repo::Repo;
use crate::sshd::Sshd;
use crate::tape::boundaries;

const ROUNDS: usize = 400;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % limit.max(1) as u64).unwrap()
    }
}

/// Bytes that tend to matter: paths out of the tree, ends of lengths, other kinds of messages.
const SPICE: &[&[u8]] =
    &[b"../", b"/etc/passwd", b".git/hooks/x", b"\0", b"..", &[0xff; 10], &[0x80, 0x80, 0x01], &[0], &[0x0a], &[0x7a]];

fn mutate(tape: &[u8], frames: &[usize], random: &mut Random) -> Vec<u8> {
    let mut bytes = tape.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => bytes.truncate(at.max(1)),
            3 => {
                let spice = SPICE[random.below(SPICE.len())];
                let end = (at + spice.len()).min(bytes.len());
                bytes.splice(at..end, spice.iter().copied());
            }
            4 => {
                // A frame again, or out of order.
                let number = random.below(frames.len() - 1);
                let frame = tape[frames[number]..frames[number + 1]].to_vec();
                let to = frames[random.below(frames.len())].min(bytes.len());
                bytes.splice(to..to, frame);
            }
            _ => {
                let number = random.below(frames.len() - 1);
                let end = frames[number + 1].min(bytes.len());
                bytes.drain(frames[number].min(end)..end);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutated_conversation_panics_or_leaves_the_root() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    repo.write("large", &vec![3; 300 << 10]);
    repo.commit("large");
    let first = repo.place.path().join("first");
    prepare_into(&connection, &observe(&repo.root, &ObserveOptions::default()).unwrap(), &first).await.unwrap();
    repo.write("README.md", b"other\n");
    repo.remove("run.sh");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    let tape = recorded(&connection, &overlay, &first, &repo.place.path().join("tape")).await;
    stays_in_its_root(&tape, repo.place.path());
}

fn stays_in_its_root(tape: &[u8], place: &Path) {
    let frames = boundaries(tape);
    let cage = place.join("cage");
    std::fs::create_dir_all(cage.join("outside")).unwrap();
    std::fs::write(cage.join("outside/file"), b"untouched").unwrap();
    let mut random = Random(42);
    for round in 0..ROUNDS {
        let root = cage.join("root");
        std::fs::create_dir(&root).unwrap();
        let bytes = mutate(tape, &frames, &mut random);
        // Any outcome but a panic.
        let _ = receiver::run(&root, Cursor::new(&bytes), std::io::sink());
        assert_eq!(names(&cage), ["outside", "root"], "round {round}");
        assert_eq!(names(&cage.join("outside")), ["file"], "round {round}");
        assert_eq!(std::fs::read(cage.join("outside/file")).unwrap(), b"untouched", "round {round}");
        assert!(!root.join(".git/hooks").exists(), "round {round}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutated_session_panics_or_leaves_the_root() {
    let Some(sshd) = Sshd::start() else { return };
    let (tape, repo) = crate::watch::faults::recorded_session(&sshd).await;
    stays_in_its_root(&tape, repo.place.path());
}

#[test]
fn no_mutated_memory_is_believed() {
    let repo = Repo::new();
    let file = repo.place.path().join("memory");
    let remembered = |root: &Path| {
        banger_sync::overlay::observe_with(root, &ObserveOptions::default(), |_| Some(file.clone())).unwrap()
    };
    let expected = remembered(&repo.root).tree_digest();
    // Nothing is remembered that was written a moment ago, and change times cannot be set back.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !file.exists() {
        assert!(std::time::Instant::now() < deadline, "nothing is ever remembered");
        assert_eq!(remembered(&repo.root).tree_digest(), expected);
    }
    let bytes = std::fs::read(&file).unwrap();
    let mut random = Random(7);
    for _ in 0..200 {
        let mut other = bytes.clone();
        let at = random.below(other.len());
        other[at] ^= 1 << random.below(8);
        std::fs::write(&file, &other).unwrap();
        assert_eq!(remembered(&repo.root).tree_digest(), expected, "byte {at}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "byte {at}: what was damaged is known again");
    }
}
