//! The table of decisions, and deliveries into real directories.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use banger_proto::frame::frame;
use banger_proto::guest::v1::{
    Chunk, DeliverEntry, DeliverPart, SyncHello, SyncPurpose, SyncReply, SyncRequest, WireConflict,
};

use super::*;
use crate::entry::{Content, EntryKind};
use crate::frames::PREAMBLE;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn file(at: &str, mode: u32, content: &[u8]) -> (Piece, Vec<u8>) {
    let what = What::File { size: content.len() as u64, digest: blake3::hash(content) };
    (Piece { path: path(at), mode, what }, content.to_vec())
}

fn directory(at: &str, mode: u32) -> (Piece, Vec<u8>) {
    (Piece { path: path(at), mode, what: What::Directory }, Vec::new())
}

fn link(at: &str, target: &str) -> (Piece, Vec<u8>) {
    (Piece { path: path(at), mode: 0, what: What::Symlink { target: target.into() } }, Vec::new())
}

fn request(body: Request) -> Vec<u8> {
    frame(&SyncRequest { body: Some(body) })
}

fn opening(pieces: &[(Piece, Vec<u8>)], fresh_guest: bool) -> Vec<u8> {
    let hello = SyncHello { version: VERSION, purpose: SyncPurpose::Deliver.into() };
    let entries = pieces.iter().map(|(piece, _)| DeliverEntry::from(piece)).collect();
    let part = DeliverPart { entries, fresh_guest, last: true };
    [request(Request::Hello(hello)), request(Request::Deliver(part))].concat()
}

fn replies(output: &[u8]) -> Vec<Reply> {
    let mut reader = FrameReader::new(&output[PREAMBLE.len()..]);
    let mut replies = Vec::new();
    while let Some(reply) = reader.receive::<SyncReply>().unwrap() {
        replies.push(reply.body.unwrap());
    }
    replies
}

/// Sends the content that was asked for once it was.
struct Host<'p> {
    bytes: Cursor<Vec<u8>>,
    output: &'p RefCell<Vec<u8>>,
    pieces: &'p [(Piece, Vec<u8>)],
    answered: bool,
}

impl Read for Host<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        if count > 0 || self.answered {
            return Ok(count);
        }
        self.answered = true;
        let asked = asked(&self.output.borrow(), self.pieces.len());
        let wanted = self.pieces.iter().zip(asked).filter(|(_, asked)| *asked);
        let chunks = wanted.flat_map(|((_, content), _)| content.chunks(3));
        self.bytes = Cursor::new(
            chunks.flat_map(|data| request(Request::Chunk(Chunk { data: data.to_vec().into() }))).collect(),
        );
        self.bytes.read(buffer)
    }
}

struct Out<'p>(&'p RefCell<Vec<u8>>);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn asked(output: &[u8], pieces: usize) -> Vec<bool> {
    let need = replies(output).into_iter().find_map(|reply| match reply {
        Reply::Need(need) => Some(need.bitmap),
        _ => None,
    });
    let bitmap = need.unwrap();
    (0..pieces).map(|index| bitmap[index / 8] & (1 << (index % 8)) != 0).collect()
}

/// Files written, and what was kept.
type Told = (u64, Vec<(String, WireConflict)>);

fn deliver(root: &Path, pieces: &[(Piece, Vec<u8>)], fresh_guest: bool) -> Result<Told, ReceiverError> {
    let output = RefCell::new(Vec::new());
    let host = Host { bytes: Cursor::new(opening(pieces, fresh_guest)), output: &output, pieces, answered: false };
    crate::receiver::run(root, host, Out(&output))?;
    let (mut conflicts, mut written) = (Vec::new(), None);
    for reply in replies(&output.borrow()) {
        match reply {
            Reply::Conflicts(part) => conflicts.extend(
                part.conflicts
                    .iter()
                    .map(|conflict| (String::from_utf8(conflict.path.clone()).unwrap(), conflict.reason())),
            ),
            Reply::Done(done) => written = Some(done.files_written),
            _ => {}
        }
    }
    Ok((written.unwrap(), conflicts))
}

fn mode(path: PathBuf) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_table_of_decisions() {
    let (piece, _) = file("f", 0o600, b"new");
    let (older, _) = file("f", 0o600, b"old");
    let present = |content: &[u8]| Observed::Present(Content { kind: EntryKind::File, digest: blake3::hash(content) });
    let conflict = Decision::Conflict;
    for (known, observed, used, fresh) in [
        (None, Observed::Absent, Decision::Make, Decision::Make),
        (Some(&older), Observed::Absent, Decision::Make, Decision::Make),
        (None, present(b"new"), Decision::Keep, Decision::Keep),
        (Some(&older), present(b"new"), Decision::Keep, Decision::Keep),
        (Some(&older), present(b"old"), Decision::Make, Decision::Make),
        (Some(&older), present(b"edited"), conflict(ConflictReason::ChangedInGuest), Decision::Make),
        (None, present(b"its own"), conflict(ConflictReason::CreatedInGuest), Decision::Make),
        (None, Observed::Directory, conflict(ConflictReason::Obstructed), conflict(ConflictReason::Obstructed)),
        (None, Observed::Special, conflict(ConflictReason::Obstructed), conflict(ConflictReason::Obstructed)),
    ] {
        let known: Vec<Piece> = known.into_iter().cloned().collect();
        assert_eq!(decide(&piece.what, &known, observed, Guest::Used), used, "{observed:?} after {known:?}");
        assert_eq!(decide(&piece.what, &known, observed, Guest::Fresh), fresh, "{observed:?} after {known:?}");
    }
    let directory = What::Directory;
    assert_eq!(decide(&directory, &[], Observed::Absent, Guest::Used), Decision::Make);
    assert_eq!(decide(&directory, &[], Observed::Directory, Guest::Used), Decision::Keep);
    assert_eq!(decide(&directory, &[], present(b"x"), Guest::Fresh), conflict(ConflictReason::Obstructed));
}

#[test]
fn files_directories_and_links_arrive_and_a_second_time_nothing_is_sent() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    std::fs::create_dir(root.join("there")).unwrap();
    std::fs::set_permissions(root.join("there"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let pieces = [
        directory("dir", 0o750),
        file("dir/empty", 0o644, b""),
        link("dir/link", "run"),
        file("dir/run", 0o755, b"#!/bin/sh\n"),
        file("netrc", 0o600, b"password"),
        directory("there", 0o700),
        file("there/x", 0o400, b"x"),
    ];
    assert_eq!(deliver(root, &pieces, true).unwrap(), (5, vec![]));
    assert_eq!(std::fs::read(root.join("netrc")).unwrap(), b"password");
    assert_eq!(std::fs::read_link(root.join("dir/link")).unwrap(), Path::new("run"));
    let modes = ["dir", "dir/empty", "dir/run", "netrc", "there/x"].map(|name| mode(root.join(name)));
    assert_eq!(modes, [0o750, 0o644, 0o755, 0o600, 0o400]);
    assert_eq!(mode(root.join("there")), 0o755, "a directory that was there keeps its own");
    assert_eq!(mode(root.join(".banger")), 0o700);
    let record = std::fs::read(root.join(".banger/files")).unwrap();
    assert!(!record.windows(8).any(|window| window == b"password"), "no content is remembered");

    let before = std::fs::metadata(root.join("netrc")).unwrap().ino();
    assert_eq!(deliver(root, &pieces, false).unwrap(), (0, vec![]));
    assert_eq!(std::fs::metadata(root.join("netrc")).unwrap().ino(), before);

    // Only the mode is another one, there or here.
    std::fs::set_permissions(root.join("netrc"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut changed = pieces.clone();
    changed[0].0.mode = 0o700;
    assert_eq!(deliver(root, &changed, false).unwrap(), (0, vec![]));
    assert_eq!((mode(root.join("netrc")), mode(root.join("dir"))), (0o600, 0o700));
}

#[test]
fn what_was_edited_in_the_guest_stays_and_what_was_not_follows_the_host() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    std::fs::write(root.join("image"), b"of the image").unwrap();
    let first = [file("edited", 0o600, b"1"), file("image", 0o600, b"1"), file("plain", 0o600, b"1")];
    assert_eq!(deliver(root, &first, true).unwrap(), (3, vec![]), "what the image brought gives way");
    std::fs::write(root.join("edited"), b"work").unwrap();
    std::fs::write(root.join("own"), b"work").unwrap();
    std::fs::remove_file(root.join("image")).unwrap();
    let second =
        [file("edited", 0o600, b"2"), file("image", 0o600, b"2"), file("own", 0o600, b"2"), file("plain", 0o600, b"2")];
    let conflicts = vec![("edited".to_owned(), WireConflict::Changed), ("own".to_owned(), WireConflict::Created)];
    assert_eq!(deliver(root, &second, false).unwrap(), (2, conflicts.clone()));
    let contents = ["edited", "image", "own", "plain"].map(|name| std::fs::read(root.join(name)).unwrap());
    assert_eq!(contents, [&b"work"[..], b"2", b"work", b"2"]);
    assert_eq!(deliver(root, &second, false).unwrap(), (0, conflicts), "it is told as long as it is so");
    // Made the same, it is ours again.
    std::fs::write(root.join("edited"), b"2").unwrap();
    std::fs::remove_file(root.join("own")).unwrap();
    assert_eq!(deliver(root, &second, false).unwrap(), (1, vec![]));
    let third = [file("edited", 0o600, b"3")];
    assert_eq!(deliver(root, &third, false).unwrap(), (1, vec![]));
    assert_eq!(std::fs::read(root.join("plain")).unwrap(), b"2", "nothing is removed");
}

#[test]
fn no_link_in_the_guest_leads_out() {
    let place = tempfile::tempdir().unwrap();
    let (root, outside) = (place.path().join("root"), place.path().join("outside"));
    std::fs::create_dir(&root).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), b"theirs").unwrap();
    symlink("../outside", root.join("dir")).unwrap();
    symlink("../outside/file", root.join("file")).unwrap();
    symlink(&outside, root.join("deep")).unwrap();
    let pieces = [
        file("deep/er/file", 0o600, b"ours"),
        directory("dir", 0o700),
        file("dir/file", 0o600, b"ours"),
        link("dir/link", "file"),
        file("file", 0o600, b"ours"),
    ];
    let (written, conflicts) = deliver(&root, &pieces, true).unwrap();
    assert_eq!(written, 1, "{conflicts:?}");
    let paths: Vec<&str> = conflicts.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["deep/er/file", "dir", "dir/file", "dir/link"]);
    assert!(conflicts.iter().all(|(_, reason)| *reason == WireConflict::Obstructed), "{conflicts:?}");
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"theirs");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    // The link itself gave way to a file.
    assert!(std::fs::symlink_metadata(root.join("file")).unwrap().is_file());

    std::fs::remove_dir_all(root.join(".banger")).unwrap();
    symlink(&outside, root.join(".banger")).unwrap();
    assert!(deliver_refused(&root, &pieces).contains(".banger"));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

fn deliver_refused(root: &Path, pieces: &[(Piece, Vec<u8>)]) -> String {
    crate::receiver::run(root, Cursor::new(opening(pieces, false)), std::io::sink()).unwrap_err().to_string()
}

#[test]
fn frames_that_mean_harm_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let unsorted = [file("b", 0o600, b""), file("a", 0o600, b"")];
    assert!(deliver_refused(&root, &unsorted).contains("manifest is invalid"));
    let twice = [file("a", 0o600, b""), file("a", 0o600, b"")];
    assert!(deliver_refused(&root, &twice).contains("manifest is invalid"));
    let large = |at: &str| {
        let what = What::File { size: BYTES_LIMIT, digest: blake3::hash(b"") };
        (Piece { path: path(at), mode: 0o600, what }, Vec::new())
    };
    assert!(deliver_refused(&root, &[large("a"), large("b")]).contains("manifest is invalid"));

    let wanted = [file("a", 0o600, b"wanted")];
    for content in [&b"other."[..], b"wanted and more", b"want"] {
        let chunk = request(Request::Chunk(Chunk { data: content.to_vec().into() }));
        let bytes = [opening(&wanted, true), chunk].concat();
        assert!(crate::receiver::run(&root, Cursor::new(bytes), std::io::sink()).is_err());
        assert!(!root.join("a").exists(), "a file has its name only when it is right");
    }
    // What those left behind is gone after the next that ends.
    assert_eq!(deliver(&root, &wanted, false).unwrap(), (1, vec![]));
    let names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_delivery_cut_off_anywhere_leaves_every_file_old_or_new_and_no_conflict() {
    let place = tempfile::tempdir().unwrap();
    let version = |content: &[u8]| {
        [directory("d", 0o700), file("d/a", 0o600, content), file("d/b", 0o600, content), file("e", 0o600, content)]
    };
    let (old, new) = (version(b"old content"), version(b"the new content"));
    let whole: Vec<u8> = std::iter::once(opening(&new, false))
        .chain(
            new.iter()
                .flat_map(|(_, content)| content.chunks(4))
                .map(|data| request(Request::Chunk(Chunk { data: data.to_vec().into() }))),
        )
        .flatten()
        .collect();
    // Before the first content nothing but the directory is made; a frame has about ten bytes.
    for cut in (opening(&new, false).len() - 1..whole.len()).step_by(3) {
        let root = place.path().join(cut.to_string());
        std::fs::create_dir(&root).unwrap();
        deliver(&root, &old, true).unwrap();
        assert!(crate::receiver::run(&root, Cursor::new(&whole[..cut]), std::io::sink()).is_err(), "{cut}");
        for name in ["d/a", "d/b", "e"] {
            let content = std::fs::read(root.join(name)).unwrap();
            assert!(content == b"old content" || content == b"the new content", "{name} after {cut} bytes");
        }
        let third = version(b"third");
        assert_eq!(deliver(&root, &third, false).unwrap(), (3, vec![]), "cut after {cut} bytes");
        assert_eq!(std::fs::read_dir(root.join("d")).unwrap().count(), 2, "no temporary is left");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
