//! Hostile and broken input, as bytes: whatever arrives, nothing outside the root changes.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use banger_proto::frame::frame;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{
    Chunk, FailureClass, FileBatch, FileData, FileEnd, FileStart, FileVanished, Finish, GitFileEnd, GitFileStart,
    GitRole, ManifestEnd, ManifestPart, Module, Modules, SyncHello, WireEntry, WireKind,
};
use proptest::prelude::*;

use super::*;

mod blocks;
mod packed;

struct Place {
    _dir: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { root: dir.path().join("root"), outside: dir.path().join("outside"), _dir: dir };
        std::fs::create_dir(&place.outside).unwrap();
        std::fs::write(place.outside.join("precious"), "p").unwrap();
        place
    }

    fn assert_outside_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(&self.outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["precious"]);
        assert_eq!(std::fs::read(self.outside.join("precious")).unwrap(), b"p");
    }
}

fn bytes(requests: &[Request]) -> Vec<u8> {
    requests.iter().flat_map(|body| frame(&SyncRequest { body: Some(body.clone()) })).collect()
}

fn send(root: &Path, requests: &[Request]) -> (Result<(), ReceiverError>, Vec<Reply>) {
    let mut output = Vec::new();
    let outcome = run(root, &bytes(requests)[..], &mut output);
    let mut reader = FrameReader::new(output.strip_prefix(crate::frames::PREAMBLE).unwrap());
    let mut replies = Vec::new();
    while let Some(reply) = reader.receive::<SyncReply>().unwrap() {
        replies.push(reply.body.unwrap());
    }
    (outcome, replies)
}

fn hello() -> Request {
    Request::Hello(SyncHello { version: VERSION, ..SyncHello::default() })
}

fn wire(path: &[u8], kind: WireKind, content: &[u8]) -> WireEntry {
    WireEntry {
        path: path.to_vec(),
        kind: kind.into(),
        size: content.len() as u64,
        digest: blake3::hash(content).as_bytes().to_vec(),
        mtime_seconds: 1,
        mtime_nanos: 2,
    }
}

fn file(path: &[u8], content: &[u8]) -> WireEntry {
    wire(path, WireKind::File, content)
}

fn manifest(entries: &[WireEntry]) -> [Request; 2] {
    [
        Request::Manifest(ManifestPart { entries: entries.to_vec() }),
        Request::ManifestEnd(ManifestEnd { count: entries.len() as u64 }),
    ]
}

fn batch(index: u32, entry: &WireEntry, data: &[u8]) -> Request {
    Request::Batch(FileBatch {
        files: vec![FileData { index, entry: Some(entry.clone()), data: data.to_vec().into() }],
    })
}

/// A whole run that sends these files.
fn whole(files: &[(&[u8], WireKind, &[u8])]) -> Vec<Request> {
    let entries: Vec<_> = files.iter().map(|(path, kind, content)| wire(path, *kind, content)).collect();
    let mut requests = vec![hello()];
    requests.extend(manifest(&entries));
    for (index, ((_, _, content), entry)) in (0_u32..).zip(files.iter().zip(&entries)) {
        requests.push(batch(index, entry, content));
    }
    requests.push(Request::Finish(Finish::default()));
    requests
}

#[test]
fn a_tree_arrives_with_modes_links_and_times() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let place = Place::new();
    let (outcome, replies) = send(
        &place.root,
        &whole(&[
            (b"a/b/c", WireKind::File, b"content"),
            (b"link", WireKind::Symlink, b"a/b/c"),
            (b"run", WireKind::Executable, b"#!"),
        ]),
    );
    outcome.unwrap();
    assert!(matches!(replies.last(), Some(Reply::Done(done)) if done.files_written == 3));
    let metadata = std::fs::metadata(place.root.join("a/b/c")).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o111, metadata.mtime(), metadata.mtime_nsec()), (0, 1, 2));
    assert_eq!(std::fs::metadata(place.root.join("run")).unwrap().permissions().mode() & 0o100, 0o100);
    let link = place.root.join("link");
    assert_eq!(link.symlink_metadata().unwrap().mtime(), 1);
    assert_eq!(std::fs::read(link).unwrap(), b"content");
}

#[test]
fn paths_that_leave_the_root_are_refused_before_anything_is_written() {
    for path in [
        &b"../outside/x"[..],
        b"/outside/x",
        b"a/../../outside/x",
        b"a\0b",
        b"",
        b".git/hooks/post-checkout",
        b"a/.GIT/config",
        b"./a",
        b"a//b",
    ] {
        let place = Place::new();
        let mut requests = vec![hello()];
        requests.extend(manifest(&[file(path, b"x")]));
        let (outcome, replies) = send(&place.root, &requests);
        assert!(matches!(outcome, Err(ReceiverError::Entry { .. })), "{path:?}");
        assert!(matches!(replies.last(), Some(Reply::Failure(failure)) if failure.class() == FailureClass::Protocol));
        place.assert_outside_untouched();
    }
}

#[test]
fn a_link_planted_in_the_way_is_not_followed() {
    let place = Place::new();
    send(&place.root, &whole(&[(b"dir/file", WireKind::File, b"1")])).0.unwrap();
    std::fs::remove_dir_all(place.root.join("dir")).unwrap();
    symlink(&place.outside, place.root.join("dir")).unwrap();
    let (outcome, replies) = send(&place.root, &whole(&[(b"dir/new", WireKind::File, b"2")]));
    outcome.unwrap();
    let obstructed = replies.iter().any(|reply| matches!(reply, Reply::Conflicts(part) if part.conflicts.len() == 1));
    assert!(obstructed, "{replies:?}");
    place.assert_outside_untouched();

    // The same through the tree itself: a link and something below it at once.
    let place = Place::new();
    let target = place.outside.to_str().unwrap().as_bytes();
    let entries = [wire(b"dir", WireKind::Symlink, target), file(b"dir/new", b"2")];
    let mut requests = vec![hello()];
    requests.extend(manifest(&entries));
    assert!(matches!(send(&place.root, &requests).0, Err(ReceiverError::Manifest { .. })));
    place.assert_outside_untouched();
}

#[test]
fn planted_metadata_links_are_not_followed() {
    for planted in [".git", ".git/banger", ".git/objects", ".git/refs/heads"] {
        let place = Place::new();
        send(&place.root, &whole(&[])).0.unwrap();
        let path = place.root.join(planted);
        std::fs::remove_dir_all(&path).unwrap();
        symlink(&place.outside, &path).unwrap();
        assert!(send(&place.root, &whole(&[(b"x", WireKind::File, b"x")])).0.is_err(), "{planted}");
        place.assert_outside_untouched();
    }
}

#[test]
fn git_files_have_only_their_own_places() {
    for (role, name) in [
        (GitRole::Pack, "../../../outside/x"),
        (GitRole::Pack, ""),
        (GitRole::Pack, "0123456789abcdef0123456789abcdef0123456G"),
        (GitRole::Branch, "refs/heads/../../hooks/post-checkout"),
        (GitRole::Branch, "refs/heads/"),
        (GitRole::Branch, "hooks/x"),
        (GitRole::Branch, "refs/heads/a.lock"),
        (GitRole::Head, "x"),
        (GitRole::Config, "../x"),
        (GitRole::Unspecified, ""),
    ] {
        let place = Place::new();
        let mut requests = vec![hello()];
        requests.extend(manifest(&[]));
        requests.push(Request::GitFileStart(GitFileStart { role: role.into(), name: name.into(), module: 0 }));
        let (outcome, _) = send(&place.root, &requests);
        assert!(matches!(outcome, Err(ReceiverError::Unexpected { .. })), "{role:?} {name}: {outcome:?}");
        place.assert_outside_untouched();
    }
}

#[test]
fn submodules_have_a_place_inside_the_root_only() {
    let module = |parts: &[&[u8]]| Module {
        parts: parts.iter().map(|part| part.to_vec()).collect(),
        populated: true,
        finish: Some(Finish::default()),
    };
    let start = |role: GitRole, module| {
        Request::GitFileStart(GitFileStart { role: role.into(), module, ..GitFileStart::default() })
    };
    let told = |modules: &[Module], files: &[Request]| {
        let mut requests = vec![hello()];
        requests.extend(manifest(&[]));
        requests.push(Request::Modules(Modules { modules: modules.to_vec() }));
        requests.extend_from_slice(files);
        requests.push(Request::Finish(Finish::default()));
        requests
    };
    let good = module(&[b"sub"]);
    let deep: Vec<&[u8]> = vec![b"a"; 40];
    let forbidden = [vec![&b".."[..]], vec![b"a", b"../../.."], vec![b"/etc"], vec![b".git/hooks"], vec![], deep];
    for parts in &forbidden {
        let place = Place::new();
        let (outcome, _) = send(&place.root, &told(&[module(parts)], &[]));
        assert!(matches!(outcome, Err(ReceiverError::Manifest { .. })), "{parts:?}: {outcome:?}");
        place.assert_outside_untouched();
    }
    for many in [vec![good.clone(); 2], vec![good.clone(); 5000]] {
        let outcome = send(&Place::new().root, &told(&many, &[])).0;
        assert!(matches!(outcome, Err(ReceiverError::Manifest { .. })), "{outcome:?}");
    }
    for number in [2, u32::MAX] {
        let (outcome, _) =
            send(&Place::new().root, &told(std::slice::from_ref(&good), &[start(GitRole::Head, number)]));
        assert!(matches!(outcome, Err(ReceiverError::Unexpected { .. })), "{outcome:?}");
    }
    // References are only ever branches and tags.
    let refs = format!("{} refs/heads/../../config\n", "1".repeat(40)).into_bytes();
    let digest = blake3::hash(&refs).as_bytes().to_vec();
    let end = Request::GitFileEnd(GitFileEnd { digest, ..GitFileEnd::default() });
    let place = Place::new();
    let chunk = Request::Chunk(Chunk { data: refs.into() });
    assert!(
        send(&place.root, &told(std::slice::from_ref(&good), &[start(GitRole::PackedRefs, 1), chunk, end])).0.is_err()
    );
    assert!(!place.root.join(".git/modules/sub/packed-refs").exists());

    // Links the guest put in the way.
    for planted in [".git/modules", ".git/modules/sub", ".git/modules/sub/banger", "sub"] {
        let place = Place::new();
        send(&place.root, &told(std::slice::from_ref(&good), &[])).0.unwrap();
        assert_eq!(std::fs::read(place.root.join("sub/.git")).unwrap(), b"gitdir: ../.git/modules/sub\n");
        let path = place.root.join(planted);
        std::fs::remove_dir_all(&path).unwrap();
        symlink(&place.outside, &path).unwrap();
        let outcome = send(&place.root, &told(std::slice::from_ref(&good), &[])).0;
        assert!(outcome.is_err() || planted == "sub", "{planted}");
        let _ = send(&place.root, &told(&[], &[]));
        place.assert_outside_untouched();
    }
}

#[test]
fn content_that_does_not_match_never_gets_its_name() {
    let good = file(b"a", b"right");
    let large_end = |entry| Request::FileEnd(FileEnd { entry: Some(entry), abandoned: false });
    let start = Request::FileStart(FileStart { index: 0, kind: WireKind::File.into() });
    let chunk = |data: &[u8]| Request::Chunk(Chunk { data: data.to_vec().into() });
    for content in [
        vec![batch(0, &good, b"wrong")],
        vec![batch(0, &good, b"right and more")],
        vec![start.clone(), chunk(b"wro"), chunk(b"ng"), large_end(good.clone())],
        vec![start.clone(), chunk(b"right"), large_end(wire(b"a", WireKind::Executable, b"right"))],
    ] {
        let place = Place::new();
        let mut requests = vec![hello()];
        requests.extend(manifest(std::slice::from_ref(&good)));
        requests.extend(content);
        assert!(matches!(send(&place.root, &requests).0, Err(ReceiverError::Content { .. })));
        let names: Vec<_> = std::fs::read_dir(&place.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [".git"], "no file, no temporary");
    }
    let place = Place::new();
    let mut requests = vec![hello()];
    requests.extend(manifest(&[]));
    requests.push(Request::GitFileStart(GitFileStart { role: GitRole::Head.into(), ..GitFileStart::default() }));
    requests.push(chunk(b"ref: refs/heads/main\n"));
    requests.push(Request::GitFileEnd(GitFileEnd { digest: vec![0; 32], ..GitFileEnd::default() }));
    assert!(matches!(send(&place.root, &requests).0, Err(ReceiverError::Content { .. })));
    assert!(!place.root.join(".git/HEAD").exists());
}

#[test]
fn messages_out_of_place_are_refused() {
    let entry = file(b"a", b"x");
    let listed = manifest(std::slice::from_ref(&entry));
    let after_manifest = |extra: Vec<Request>| {
        let mut requests = vec![hello()];
        requests.extend(listed.clone());
        requests.extend(extra);
        requests
    };
    let other = file(b"b", b"x");
    for (why, requests) in [
        ("no greeting", listed.to_vec()),
        ("another version", vec![Request::Hello(SyncHello { version: 99, ..SyncHello::default() })]),
        ("a second greeting", after_manifest(vec![hello()])),
        ("an index out of range", after_manifest(vec![batch(7, &entry, b"x")])),
        ("another path at the index", after_manifest(vec![batch(0, &other, b"x")])),
        ("twice the same", after_manifest(vec![batch(0, &entry, b"x"), batch(0, &entry, b"x")])),
        ("nothing of what was asked for", after_manifest(vec![Request::Finish(Finish::default())])),
        ("a chunk of nothing", after_manifest(vec![Request::Chunk(Chunk { data: vec![1].into() })])),
        ("an end of nothing", after_manifest(vec![Request::FileEnd(FileEnd::default())])),
        ("an unknown file gone", after_manifest(vec![Request::Vanished(FileVanished { index: 1 })])),
        ("no metadata", after_manifest(vec![Request::Batch(FileBatch { files: vec![FileData::default()] })])),
        ("unsorted", {
            let mut requests = vec![hello()];
            requests.extend(manifest(&[other.clone(), entry.clone()]));
            requests
        }),
        ("the same path twice", {
            let mut requests = vec![hello()];
            requests.extend(manifest(&[entry.clone(), entry.clone()]));
            requests
        }),
        ("too few", vec![hello(), Request::ManifestEnd(ManifestEnd { count: 3 })]),
    ] {
        let place = Place::new();
        let (outcome, replies) = send(&place.root, &requests);
        assert!(outcome.is_err(), "{why}");
        assert!(matches!(replies.last(), Some(Reply::Failure(_))), "{why}");
    }
}

#[test]
fn an_oversize_frame_ends_the_transfer() {
    let place = Place::new();
    let mut input = bytes(&[hello()]);
    input.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x7f]);
    let mut output = Vec::new();
    assert!(matches!(run(&place.root, &input[..], &mut output), Err(ReceiverError::Stream { .. })));
}

#[test]
fn the_command_is_one_for_a_shell() {
    assert_eq!(sync_command("/root/it's"), "/run/banger/banger-guest sync --root '/root/it'\\''s'");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_the_receiver_leave_its_root(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        cut in 0_usize..400,
    ) {
        let place = Place::new();
        let mut input = bytes(&whole(&[(b"a/b", WireKind::File, b"content"), (b"c", WireKind::Symlink, b"../outside")]));
        input.truncate(cut);
        input.extend(noise);
        let mut output = Vec::new();
        let _ = run(&place.root, &input[..], &mut output);
        place.assert_outside_untouched();
    }
}
