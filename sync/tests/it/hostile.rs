//! Source trees and frames that mean harm or are merely strange: a clear outcome each, nothing outside the root.

use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use banger_proto::failure::{Classified, Kind};
use banger_proto::frame::frame;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{ManifestEnd, ManifestPart, SyncHello, SyncRequest, WireEntry, WireKind};
use banger_sync::frames::{FRAME_LIMIT, VERSION};
use banger_sync::overlay::{ObserveOptions, OverlayError, observe};
use banger_sync::receiver::{self, ReceiverError};

use crate::prepare::prepare_into;
use crate::repo::Repo;
use crate::sshd::Sshd;

fn everything() -> ObserveOptions {
    ObserveOptions { include_untracked: true, ..ObserveOptions::default() }
}

fn greeted(requests: Vec<Request>) -> Vec<u8> {
    let hello = Request::Hello(SyncHello { version: VERSION, ..SyncHello::default() });
    std::iter::once(hello).chain(requests).flat_map(|body| frame(&SyncRequest { body: Some(body) })).collect()
}

fn receive(root: &Path, bytes: &[u8]) -> Result<(), ReceiverError> {
    receiver::run(root, Cursor::new(bytes), std::io::sink())
}

fn entry(path: &[u8]) -> WireEntry {
    WireEntry { path: path.to_vec(), kind: WireKind::File.into(), digest: vec![0; 32], ..WireEntry::default() }
}

#[test]
fn no_manifest_leads_out_of_the_root() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("etc")).unwrap();
    for path in [
        &b"../outside"[..],
        b"a/../../outside",
        b"/etc/cron.d/x",
        b"a\0b",
        b".git/hooks/post-checkout",
        b"a/.git/config",
        b".GIT/config",
        b"",
        b".",
        b"a//b",
    ] {
        let root = place.path().join("root");
        let bytes = greeted(vec![Request::Manifest(ManifestPart { entries: vec![entry(path)] })]);
        let refused = receive(&root, &bytes).unwrap_err();
        assert!(matches!(refused, ReceiverError::Entry { .. }), "{:?}: {refused}", path.escape_ascii().to_string());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "nothing beside the root");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_the_guest_put_in_the_way_are_not_followed() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = repo.place.path().join("guest");
    prepare_into(&connection, &observe(&repo.root, &everything()).unwrap(), &guest).await.unwrap();
    let outside = repo.place.path().join("outside");
    std::fs::create_dir_all(outside.join("er")).unwrap();
    std::fs::write(outside.join("main.c"), b"outside\n").unwrap();
    std::fs::remove_dir_all(guest.join("src")).unwrap();
    symlink(&outside, guest.join("src")).unwrap();
    std::fs::remove_file(guest.join("README.md")).unwrap();
    symlink("/etc/hostname", guest.join("README.md")).unwrap();
    let hostname = std::fs::read("/etc/hostname").unwrap_or_default();
    repo.write("src/main.c", b"changed\n");
    repo.write("src/deep/er/file.txt", b"changed\n");
    repo.write("README.md", b"changed\n");
    let prepared = prepare_into(&connection, &observe(&repo.root, &everything()).unwrap(), &guest).await.unwrap();
    assert_eq!(prepared.conflicts.len(), 3, "{:?}", prepared.conflicts);
    assert_eq!(std::fs::read(outside.join("main.c")).unwrap(), b"outside\n");
    assert_eq!(std::fs::read_dir(outside.join("er")).unwrap().count(), 0);
    assert_eq!(std::fs::read("/etc/hostname").unwrap_or_default(), hostname);
}

#[test]
fn a_million_entries_are_taken_and_too_long_frames_are_not() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    let mut requests = Vec::new();
    for part in 0..1000 {
        let entries = (0..1000).map(|number| entry(format!("{part:04}/{number:04}").as_bytes())).collect();
        requests.push(Request::Manifest(ManifestPart { entries }));
    }
    requests.push(Request::ManifestEnd(ManifestEnd { count: 1_000_000 }));
    let ended = receive(&root, &greeted(requests)).unwrap_err();
    assert!(matches!(ended, ReceiverError::HostGone), "{ended}");

    let mut bytes = greeted(Vec::new());
    let mut length = FRAME_LIMIT as u64 + 1;
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    let refused = receive(&root, &bytes).unwrap_err();
    assert!(matches!(refused, ReceiverError::Stream { .. }), "{refused}");
    let manifest_end = greeted(vec![Request::ManifestEnd(ManifestEnd { count: u64::MAX })]);
    assert!(matches!(receive(&root, &manifest_end), Err(ReceiverError::Manifest { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_files_in_the_source_have_a_clear_outcome() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let name = "n".repeat(255);
    repo.write(&name, b"long\n");
    symlink("loop-b", repo.path("loop-a")).unwrap();
    symlink("loop-a", repo.path("loop-b")).unwrap();
    let sparse = std::fs::File::create(repo.path("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    // Untracked, not files: git does not mention them either.
    assert!(Command::new("mkfifo").arg(repo.path("pipe")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(repo.path("socket")).unwrap();
    let overlay = observe(&repo.root, &everything()).unwrap();
    let guest = repo.place.path().join("guest");
    let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert_eq!(prepared.tree_digest, overlay.tree_digest());
    assert!(guest.join(&name).exists() && !guest.join("pipe").exists() && !guest.join("socket").exists());
    assert_eq!(std::fs::read_link(guest.join("loop-a")).unwrap(), Path::new("loop-b"));
    assert_eq!(std::fs::metadata(guest.join("sparse")).unwrap().len(), 64 << 20);

    // Tracked, and now a pipe: refused by name, and nobody waits for a writer.
    repo.remove("README.md");
    assert!(Command::new("mkfifo").arg(repo.path("README.md")).status().unwrap().success());
    let refused = observe(&repo.root, &everything()).unwrap_err();
    assert!(matches!(refused, OverlayError::SpecialFile { .. }), "{refused}");
    assert_eq!(refused.kind(), Kind::Refused);
}

/// 2^31 bytes, none of them on the disk of the host. Only lengths beyond 32 bits can go wrong here.
#[test]
fn a_file_of_two_gibibytes_is_observed_exactly() {
    let repo = Repo::new();
    std::fs::File::create(repo.path("sparse")).unwrap().set_len((1 << 31) + 1).unwrap();
    let overlay = observe(&repo.root, &everything()).unwrap();
    assert_eq!(overlay.manifest.get(b"sparse").unwrap().size, (1 << 31) + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_while_they_are_sent_arrive_whole() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let path = repo.path("busy");
    repo.write("busy", &vec![b'0'; 100_000]);
    repo.commit("busy");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (path, stop) = (path.clone(), std::sync::Arc::clone(&stop));
        move || {
            let mut letter = b'a';
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let next = path.with_extension("next");
                std::fs::write(&next, vec![letter; 100_000]).unwrap();
                std::fs::rename(&next, &path).unwrap();
                letter = if letter == b'z' { b'a' } else { letter + 1 };
            }
        }
    });
    let guest = repo.place.path().join("guest");
    for _ in 0..20 {
        // Either it held still long enough, or it is said which file did not.
        let Ok(overlay) = observe(&repo.root, &ObserveOptions::default()) else { continue };
        if prepare_into(&connection, &overlay, &guest).await.is_ok() {
            let content = std::fs::read(guest.join("busy")).unwrap();
            assert_eq!(content.len(), 100_000);
            assert!(content.iter().all(|byte| *byte == content[0]), "a mixed file arrived");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

/// Its checksum is not asked for, as git does not: what it says wrongly is an error or shows as what is in the tree.
#[test]
fn a_damaged_index_changes_nothing_about_what_the_tree_contains() {
    let repo = Repo::new();
    let index = repo.path(".git/index");
    let whole = std::fs::read(&index).unwrap();
    let digest = observe(&repo.root, &everything()).unwrap().tree_digest();
    let (mut read, mut refused) = (0, 0);
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            std::fs::write(&index, damaged).unwrap();
            match observe(&repo.root, &everything()) {
                Ok(overlay) => {
                    assert_eq!(overlay.tree_digest(), digest, "byte {at} with {flip:#x}");
                    read += 1;
                }
                Err(error) => {
                    assert_ne!(error.kind(), Kind::Internal, "byte {at} with {flip:#x}: {error}");
                    refused += 1;
                }
            }
        }
        std::fs::write(&index, &whole[..at]).unwrap();
        let cut = observe(&repo.root, &everything());
        assert!(cut.map_or(true, |overlay| overlay.tree_digest() == digest), "cut at {at}");
    }
    assert!(read > 0 && refused > 0, "{read} were read, {refused} refused");
}
