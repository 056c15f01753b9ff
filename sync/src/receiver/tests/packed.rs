//! Lists of files in a pack, right and wrong: each file is what the manifest says, or asked for.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use banger_proto::guest::v1::{GitFileEnd, GitFileStart, GitRole, Need, ObjectFiles, PackedFiles};

use super::*;

/// A pack of git's own, its index, and where each blob's entry is: offset, length, content.
#[derive(Clone)]
struct Pack {
    pack: Vec<u8>,
    index: Vec<u8>,
    blobs: Vec<(u64, u32, Vec<u8>)>,
}

fn git(directory: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {arguments:?}");
    output.stdout
}

impl Pack {
    fn new(contents: &[Vec<u8>]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        git(at, &["init", "-q"], b"");
        let mut names = Vec::new();
        for content in contents {
            names.extend(git(at, &["hash-object", "-w", "--stdin"], content));
        }
        let name = git(at, &["pack-objects", "-q", "--depth=50", "--window=50", "--delta-base-offset", "p"], &names);
        let name = String::from_utf8(name).unwrap().trim().to_owned();
        let read = |suffix: &str| std::fs::read(at.join(format!("p-{name}.{suffix}"))).unwrap();
        let listed = git(at, &["verify-pack", "-v", &format!("p-{name}.idx")], b"");
        let mut blobs = Vec::new();
        for line in String::from_utf8(listed).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            if words.get(1) == Some(&"blob") {
                let content = git(at, &["cat-file", "blob", words[0]], b"");
                blobs.push((words[4].parse().unwrap(), words[3].parse().unwrap(), content));
            }
        }
        Self { pack: read("pack"), index: read("idx"), blobs }
    }

    /// Similar contents, so that most are deltas, three deep and more.
    fn of_deltas() -> Self {
        let mut base = vec![0; 20_000];
        blake3::Hasher::new().finalize_xof().fill(&mut base);
        let contents = (0..12_usize).map(|version| {
            let mut content = base[..20_000 - version * 500].to_vec();
            content[version * 100..][..9].copy_from_slice(b"different");
            content
        });
        let pack = Self::new(&contents.chain([Vec::new(), b"alone".to_vec()]).collect::<Vec<_>>());
        assert_eq!(pack.blobs.len(), 14);
        assert!(pack.pack.len() < 60_000, "git made no deltas");
        pack
    }

    fn entries(&self) -> Vec<WireEntry> {
        let entry =
            |(number, (.., content)): (usize, &(u64, u32, Vec<u8>))| file(format!("d/{number:02}").as_bytes(), content);
        self.blobs.iter().enumerate().map(entry).collect()
    }

    fn files(&self) -> PackedFiles {
        PackedFiles {
            pack: NAME.to_owned(),
            indexes: (0..u32::try_from(self.blobs.len()).unwrap()).collect(),
            offsets: self.blobs.iter().map(|(offset, ..)| *offset).collect(),
            lengths: self.blobs.iter().map(|(_, length, _)| *length).collect(),
            brought: None,
            is_next: Vec::new(),
        }
    }

    /// The manifest, the pack and its index.
    fn before(&self) -> Vec<Request> {
        let mut requests = vec![hello()];
        requests.extend(manifest(&self.entries()));
        requests.extend(self.itself(NAME));
        requests
    }

    fn itself(&self, name: &str) -> Vec<Request> {
        let mut requests = Vec::new();
        for (role, bytes) in [(GitRole::Pack, &self.pack), (GitRole::PackIndex, &self.index)] {
            requests.push(Request::GitFileStart(GitFileStart { role: role.into(), name: name.into(), module: 0 }));
            requests.push(Request::Chunk(Chunk { data: bytes.clone().into() }));
            let digest = blake3::hash(bytes).as_bytes().to_vec();
            requests.push(Request::GitFileEnd(GitFileEnd { digest, ..GitFileEnd::default() }));
        }
        requests
    }

    fn run(&self, root: &Path, files: PackedFiles, after: &[Request]) -> (Result<(), ReceiverError>, Vec<Reply>) {
        let mut requests = self.before();
        requests.push(Request::PackedFiles(files));
        requests.extend_from_slice(after);
        send(root, &requests)
    }
}

/// Making one takes a while.
static MADE: OnceLock<Pack> = OnceLock::new();

const NAME: &str = "0123456789012345678901234567890123456789";

fn finish() -> Request {
    Request::Finish(Finish::default())
}

/// What the list was answered with: positions that are to be sent.
fn asked_for(replies: &[Reply]) -> Vec<usize> {
    let Some(Reply::Need(Need { bitmap })) = replies.get(2) else { panic!("{replies:?}") };
    (0..bitmap.len() * 8).filter(|bit| bitmap[bit / 8] & (1 << (bit % 8)) != 0).collect()
}

#[test]
fn every_object_becomes_its_file() {
    let pack = Pack::of_deltas();
    let backwards = |files: &mut PackedFiles| {
        files.indexes.reverse();
        files.offsets.reverse();
        files.lengths.reverse();
    };
    // Order and what is said of it only save work; a wrong number of bits says nothing.
    let ways: [&dyn Fn(&mut PackedFiles); 4] = [
        &|_| {},
        &|files| files.is_next = vec![0xff, 0xff],
        &|files| {
            files.is_next = vec![0b1010_1010, 0];
            backwards(files);
        },
        &|files| files.is_next = vec![1; 77],
    ];
    for change in ways {
        let place = Place::new();
        let mut files = pack.files();
        change(&mut files);
        let (outcome, replies) = pack.run(&place.root, files, &[finish()]);
        outcome.unwrap();
        assert_eq!(asked_for(&replies), []);
        assert!(matches!(replies.last(), Some(Reply::Done(done)) if done.files_written == 14));
        for (entry, (.., content)) in pack.entries().iter().zip(&pack.blobs) {
            assert_eq!(std::fs::read(place.root.join(str::from_utf8(&entry.path).unwrap())).unwrap(), *content);
        }
    }
}

#[test]
fn what_is_remembered_of_one_pack_is_not_taken_for_another() {
    let (place, pack) = (Place::new(), Pack::of_deltas());
    // The same objects at other places: the second pack has one more before them.
    let mut contents: Vec<Vec<u8>> = pack.blobs.iter().map(|(.., content)| content.clone()).collect();
    contents.push(vec![7; 100_000]);
    let other = Pack::new(&contents);
    let half = |pack: &Pack, of: std::ops::Range<usize>| {
        let mut files = PackedFiles { offsets: Vec::new(), lengths: Vec::new(), ..pack.files() };
        files.indexes = of.clone().map(|index| u32::try_from(index).unwrap()).collect();
        for (.., content) in &MADE.get_or_init(Pack::of_deltas).blobs[of] {
            let (offset, length, _) = pack.blobs.iter().find(|(.., its)| its == content).unwrap();
            files.offsets.push(*offset);
            files.lengths.push(*length);
        }
        files
    };
    let name = NAME.replace('0', "1");
    let mut requests = pack.before();
    requests.extend(other.itself(&name));
    for (pack, name, of) in [(&pack, NAME, 0..5), (&other, &name[..], 5..10), (&pack, NAME, 10..14)] {
        requests.push(Request::PackedFiles(PackedFiles { pack: name.to_owned(), ..half(pack, of) }));
    }
    requests.push(finish());
    let (outcome, replies) = send(&place.root, &requests);
    outcome.unwrap();
    let needs = replies[2..5].iter().map(|reply| match reply {
        Reply::Need(need) => need.bitmap.iter().all(|byte| *byte == 0),
        _ => false,
    });
    assert_eq!(needs.collect::<Vec<_>>(), [true, true, true], "all that could be made was made");
    assert!(matches!(replies.last(), Some(Reply::Done(done)) if done.files_written == 14));
}

#[test]
fn what_is_something_else_is_asked_for_and_taken() {
    let (place, pack) = (Place::new(), Pack::of_deltas());
    let mut files = pack.files();
    // Another object, a place within one, beyond the end, less of it than there is.
    files.offsets.swap(0, 1);
    files.offsets[2] += 1;
    files.offsets[3] = u64::MAX;
    files.lengths[4] = 3;
    files.lengths[5] = 0;
    let contents: Vec<Request> = pack
        .entries()
        .iter()
        .zip(&pack.blobs)
        .zip(0..6)
        .map(|((entry, (.., content)), index)| batch(index, entry, content))
        .collect();
    let (outcome, replies) = pack.run(&place.root, files, &[&contents[..], &[finish()]].concat());
    outcome.unwrap();
    assert_eq!(asked_for(&replies), [0, 1, 2, 3, 4, 5]);
    assert!(matches!(replies.last(), Some(Reply::Done(done)) if done.files_written == 14));
}

#[test]
fn no_list_makes_anything_but_files_of_the_manifest_that_were_asked_for() {
    let pack = Pack::of_deltas();
    let with = |change: &dyn Fn(&mut PackedFiles)| {
        let mut files = pack.files();
        change(&mut files);
        files
    };
    let lists = [
        with(&|files| files.indexes[1] = 0),
        with(&|files| files.indexes[13] = 14),
        with(&|files| files.indexes[13] = u32::MAX),
        with(&|files| files.offsets.truncate(3)),
        with(&|files| files.lengths.clear()),
        with(&|files| files.pack = "../../../outside/precious".into()),
        with(&|files| files.pack = NAME.replace('0', "1")),
        with(&|files| {
            files.indexes = (0..9000).collect();
            (files.offsets, files.lengths) = (vec![12; 9000], vec![12; 9000]);
        }),
    ];
    for files in lists {
        let place = Place::new();
        let (outcome, _) = pack.run(&place.root, files.clone(), &[finish()]);
        assert!(matches!(outcome, Err(ReceiverError::Unexpected { .. })), "{files:?}: {outcome:?}");
        place.assert_outside_untouched();
    }
    // A second time; before the pack; without the rest.
    let place = Place::new();
    let twice = [Request::PackedFiles(pack.files()), finish()];
    assert!(matches!(pack.run(&place.root, pack.files(), &twice).0, Err(ReceiverError::Unexpected { .. })));
    let place = Place::new();
    let mut early = pack.before()[..3].to_vec();
    early.push(Request::PackedFiles(pack.files()));
    assert!(matches!(send(&place.root, &early).0, Err(ReceiverError::Unexpected { .. })));
    let place = Place::new();
    let some = with(&|files| files.offsets[3] = 0);
    assert!(matches!(pack.run(&place.root, some, &[finish()]).0, Err(ReceiverError::Unexpected { .. })));
}

#[test]
fn what_the_guest_has_there_stays() {
    let (place, pack) = (Place::new(), Pack::of_deltas());
    std::fs::create_dir_all(place.root.join(".git/banger")).unwrap();
    std::fs::create_dir_all(place.root.join("d/03")).unwrap();
    std::fs::write(place.root.join("d/03/mine"), "mine").unwrap();
    let (outcome, replies) = pack.run(&place.root, pack.files(), &[finish()]);
    outcome.unwrap();
    assert!(matches!(replies.last(), Some(Reply::Done(done)) if done.files_written == 13));
    assert_eq!(std::fs::read(place.root.join("d/03/mine")).unwrap(), b"mine");
    let conflicts: Vec<_> = replies.iter().filter(|reply| matches!(reply, Reply::Conflicts(_))).collect();
    assert_eq!(conflicts.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_damaged_pack_makes_no_wrong_file(at in 12_usize..3000, to in any::<u8>()) {
        let place = Place::new();
        let mut pack = MADE.get_or_init(Pack::of_deltas).clone();
        let at = at % pack.pack.len();
        pack.pack[at] = to;
        let (_, replies) = pack.run(&place.root, pack.files(), &[]);
        let asked = asked_for(&replies);
        for (number, (entry, (.., content))) in pack.entries().iter().zip(&pack.blobs).enumerate() {
            let path = place.root.join(str::from_utf8(&entry.path).unwrap());
            if asked.contains(&number) {
                prop_assert!(!path.exists());
            } else {
                prop_assert_eq!(&std::fs::read(path).unwrap(), content);
            }
        }
    }
}

impl Pack {
    /// The same files elsewhere, by the names of their objects.
    fn objects(&self) -> ObjectFiles {
        let name = |content: &[u8]| gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Blob, content);
        let ids = self.blobs.iter().flat_map(|(.., content)| name(content).unwrap().as_slice().to_vec());
        ObjectFiles { indexes: (0..u32::try_from(self.blobs.len()).unwrap()).collect(), ids: ids.collect() }
    }

    fn elsewhere(&self) -> Vec<WireEntry> {
        let moved = |mut entry: WireEntry| {
            entry.path[0] = b'e';
            entry
        };
        self.entries().into_iter().map(moved).collect()
    }

    /// One conversation brings the pack, another names its objects.
    fn run_again(
        &self,
        place: &Place,
        objects: ObjectFiles,
        after: &[Request],
    ) -> (Result<(), ReceiverError>, Vec<Reply>) {
        let mut requests = vec![hello()];
        requests.extend(manifest(&self.elsewhere()));
        requests.push(Request::ObjectFiles(objects));
        requests.extend_from_slice(after);
        send(&place.root, &requests)
    }

    fn brought() -> (Place, Self) {
        let (place, pack) = (Place::new(), MADE.get_or_init(Self::of_deltas).clone());
        pack.run(&place.root, pack.files(), &[finish()]).0.unwrap();
        (place, pack)
    }
}

#[test]
fn objects_that_came_earlier_become_files() {
    let (place, pack) = Pack::brought();
    let (outcome, replies) = pack.run_again(&place, pack.objects(), &[finish()]);
    outcome.unwrap();
    assert_eq!(asked_for(&replies), []);
    assert!(matches!(replies.last(), Some(Reply::Done(done)) if done.files_written == 14 && done.files_removed == 14));
    for (entry, (.., content)) in pack.elsewhere().iter().zip(&pack.blobs) {
        assert_eq!(std::fs::read(place.root.join(str::from_utf8(&entry.path).unwrap())).unwrap(), *content);
    }
}

#[test]
fn objects_there_are_not_are_asked_for() {
    let (place, pack) = Pack::brought();
    let mut objects = pack.objects();
    // Nobody's, and another file's.
    objects.ids[..20].fill(7);
    objects.ids.copy_within(60..80, 40);
    let contents = [0, 2].map(|at| batch(u32::try_from(at).unwrap(), &pack.elsewhere()[at], &pack.blobs[at].2));
    let (outcome, replies) = pack.run_again(&place, objects, &[&contents[..], &[finish()]].concat());
    outcome.unwrap();
    assert_eq!(asked_for(&replies), [0, 2]);
    // Without any pack, and with what is none.
    let packs = place.root.join(".git/objects/pack");
    std::fs::remove_dir_all(&packs).unwrap();
    let everything: Vec<usize> = (0..14).collect();
    for with_directory in [false, true] {
        if with_directory {
            std::fs::create_dir_all(&packs).unwrap();
            std::fs::write(packs.join("pack-a.idx"), &pack.index).unwrap();
            std::fs::write(packs.join("pack-b.idx"), "no index").unwrap();
            std::fs::write(packs.join("pack-b.pack"), "no pack").unwrap();
            symlink(place.outside.join("precious"), packs.join("pack-c.idx")).unwrap();
            std::fs::create_dir(packs.join("pack-d.idx")).unwrap();
        }
        let mut requests = vec![hello()];
        requests.extend(manifest(&pack.entries()));
        requests.push(Request::ObjectFiles(pack.objects()));
        assert_eq!(asked_for(&send(&place.root, &requests).1), everything);
    }
    place.assert_outside_untouched();
}

#[test]
fn no_list_of_objects_makes_anything_but_files_that_were_announced() {
    let (place, pack) = Pack::brought();
    let with = |change: &dyn Fn(&mut ObjectFiles)| {
        let mut objects = pack.objects();
        change(&mut objects);
        objects
    };
    let many = |count: u32| ObjectFiles { indexes: (0..count).collect(), ids: vec![1; count as usize * 20] };
    for objects in [
        with(&|objects| objects.indexes[1] = 0),
        with(&|objects| objects.indexes[13] = 14),
        with(&|objects| objects.indexes[13] = u32::MAX),
        with(&|objects| objects.ids.truncate(13 * 20)),
        with(&|objects| objects.ids.push(1)),
        with(&|objects| objects.indexes.clear()),
        many(8193),
    ] {
        let (outcome, _) = pack.run_again(&place, objects.clone(), &[finish()]);
        assert!(matches!(outcome, Err(ReceiverError::Unexpected { .. })), "{objects:?}: {outcome:?}");
        assert!(!place.root.join("e").exists());
    }
    place.assert_outside_untouched();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn no_damage_to_packs_makes_a_wrong_file(in_pack in any::<bool>(), at in 8_usize..3000, to in any::<u8>()) {
        let (place, pack) = Pack::brought();
        let name = place.root.join(format!(".git/objects/pack/pack-{NAME}.{}", if in_pack { "pack" } else { "idx" }));
        let mut bytes = std::fs::read(&name).unwrap();
        let at = at % bytes.len();
        bytes[at] = to;
        std::fs::write(&name, bytes).unwrap();
        let (_, replies) = pack.run_again(&place, pack.objects(), &[]);
        let asked = asked_for(&replies);
        for (number, (entry, (.., content))) in pack.elsewhere().iter().zip(&pack.blobs).enumerate() {
            let path = place.root.join(str::from_utf8(&entry.path).unwrap());
            if asked.contains(&number) {
                prop_assert!(!path.exists());
            } else {
                prop_assert_eq!(&std::fs::read(path).unwrap(), content);
            }
        }
    }
}
