//! What a stack of layers becomes: by example, and random stacks against a model that follows the words of
//! the specification (hide first, then add).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use super::support::{Layer, Made, Random, flat, flatten, header};
use crate::artifact::ext4::read_back::Content;
use crate::oci::flatten::Limits;

#[test]
fn a_whiteout_hides_what_lies_below_and_nothing_of_its_own_layer() {
    let lower = || Layer::new().directory("d", 0o755).file("d/old", "old").file("d/both", "old").file("keep", "k");
    let before = Layer::new().file("d/.wh.both", "").file("d/both", "new").file(".wh.keep", "");
    let after = Layer::new().file("d/both", "new").file("d/.wh.both", "").file(".wh.keep", "");
    for upper in [before, after] {
        let made = flat(vec![lower(), upper]);
        assert_eq!(made.paths(), ["d", "d/both", "d/old"]);
        assert_eq!(made.text("d/both"), "new");
    }
}

#[test]
fn an_opaque_directory_keeps_only_what_its_own_layer_adds() {
    let lower = || Layer::new().directory("d", 0o755).file("d/a", "").file("d/sub/b", "").file("e", "");
    let before = Layer::new().directory("d", 0o700).file("d/.wh..wh..opq", "").file("d/sub/new", "");
    let after = Layer::new().directory("d", 0o700).file("d/sub/new", "").file("d/.wh..wh..opq", "");
    for upper in [before, after] {
        let made = flat(vec![lower(), upper]);
        assert_eq!(made.paths(), ["d", "d/sub", "d/sub/new", "e"]);
        assert_eq!(made.tree()[&b"d"[..]].mode & 0o7777, 0o700);
    }
}

#[test]
fn a_whiteout_of_a_directory_takes_everything_and_of_nothing_does_nothing() {
    let lower = Layer::new().file("d/a/b/c", "").file("f", "");
    let made = flat(vec![lower, Layer::new().file(".wh.d", "").file("no/where/.wh.x", "").file(".wh..wh.plnk", "")]);
    assert_eq!(made.paths(), ["f"]);
}

#[test]
fn hard_links_reach_across_layers_and_survive_the_first_name() {
    let made = flat(vec![
        Layer::new().file("bin/busybox", "ELF"),
        Layer::new().hard_link("bin/sh", "bin/busybox"),
        Layer::new().file("bin/.wh.busybox", "").hard_link("bin/ls", "bin/sh"),
    ]);
    assert_eq!(made.paths(), ["bin", "bin/ls", "bin/sh"]);
    let tree = made.tree();
    assert_eq!(tree[&b"bin/sh"[..]].inode, tree[&b"bin/ls"[..]].inode);
    assert_eq!((tree[&b"bin/sh"[..]].links, made.text("bin/ls").as_str()), (2, "ELF"));
}

#[test]
fn a_file_replaced_by_a_layer_keeps_its_other_names() {
    let lower = Layer::new().file("a", "one").hard_link("b", "a");
    let made = flat(vec![lower, Layer::new().file("a", "two")]);
    assert_eq!((made.text("a").as_str(), made.text("b").as_str()), ("two", "one"));
}

#[test]
fn links_between_directories_are_followed_within_the_image() {
    let lower = || Layer::new().directory("usr/lib", 0o755).symlink("lib", "usr/lib").symlink("abs", "/usr/lib");
    let made = flat(vec![lower(), Layer::new().file("lib/a", "a").file("abs/b", "b").hard_link("c", "lib/a")]);
    assert_eq!(made.paths(), ["abs", "c", "lib", "usr", "usr/lib", "usr/lib/a", "usr/lib/b"]);
    // A directory in the place of the link is a directory.
    let made = flat(vec![lower(), Layer::new().directory("lib", 0o755).file("lib/a", "a")]);
    assert_eq!(made.paths(), ["abs", "lib", "lib/a", "usr", "usr/lib"]);
}

#[test]
fn the_later_of_two_entries_wins_and_types_may_change() {
    let made = flat(vec![
        Layer::new().file("x", "1").file("x", "2").directory("y", 0o755).file("y/in", "").symlink("z", "x"),
        Layer::new().file("y", "file").directory("x", 0o755).file("x/in", "").file("z", "no link"),
    ]);
    assert_eq!(made.paths(), ["x", "x/in", "y", "z"]);
    assert_eq!((made.text("y").as_str(), made.text("z").as_str()), ("file", "no link"));
}

#[test]
fn a_directory_gets_the_attributes_of_the_later_layer() {
    let with = |value: &str, size: usize| {
        let mut layer = Layer::new();
        layer.tar().append_pax_extensions([("SCHILY.xattr.user.a", value.repeat(size).as_bytes())]).unwrap();
        layer.directory("d", 0o755)
    };
    for (lower, upper) in [(1, 500), (500, 1), (500, 500)] {
        let made = flat(vec![with("l", lower), with("u", upper)]);
        assert_eq!(made.tree()[&b"d"[..]].xattrs[&b"user.a"[..]], "u".repeat(upper).as_bytes());
    }
    assert!(flat(vec![with("l", 500), Layer::new().directory("d", 0o755)]).tree()[&b"d"[..]].xattrs.is_empty());
}

#[test]
fn attributes_of_other_systems_are_left_out() {
    let mut layer = Layer::new();
    layer
        .tar()
        .append_pax_extensions([
            ("SCHILY.xattr.com.apple.quarantine", &b"x"[..]),
            ("SCHILY.xattr.security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ])
        .unwrap();
    let made = flat(vec![layer.file("ping", "ELF")]);
    let names: Vec<Vec<u8>> = made.tree()[&b"ping"[..]].xattrs.keys().cloned().collect();
    assert_eq!(names, [b"security.capability".to_vec()]);
}

#[test]
fn holes_stay_holes_and_names_may_have_255_bytes() {
    let longest = "n".repeat(255);
    let mut layer = Layer::new().file(&longest, "x");
    let size = 64 << 20;
    let mut large = header(tar::EntryType::Regular, 0o644, size);
    large.set_path("large").unwrap();
    large.set_cksum();
    let content = (&b"head"[..]).chain(std::io::repeat(0).take(size - 8)).chain(&b"tail"[..]);
    layer.tar().append(&large, content).unwrap();
    let made = flat(vec![layer]);
    let tree = made.tree();
    assert!(tree.contains_key(longest.as_bytes()));
    let node = &tree[&b"large"[..]];
    let Content::File(bytes) = &node.content else { panic!("{node:?}") };
    assert!(bytes.starts_with(b"head") && bytes.ends_with(b"tail") && bytes.len() as u64 == size);
    assert!(node.sectors * 512 <= 2 << 20, "{} sectors for two pieces of a MiB", node.sectors);
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let stack = || {
        let lower = Layer::new().file("a", &"x".repeat(100_000)).file("b", "b").directory("d", 0o755);
        [lower.bytes(), Layer::new().file("a", "y").file(".wh.b", "").symlink("l", "a").bytes()]
    };
    let read = |made: &Made| {
        let mut hash = blake(made);
        hash.truncate(32);
        hash
    };
    let one = flatten(stack().iter().map(Vec::as_slice), Limits::default()).unwrap();
    let other = flatten(stack().iter().map(Vec::as_slice), Limits::default()).unwrap();
    assert_eq!(read(&one), read(&other));
    // What was replaced left no trace either.
    let mut hidden = Vec::new();
    std::fs::File::open(&one.path).unwrap().take(16 << 20).read_to_end(&mut hidden).unwrap();
    assert!(!hidden.windows(64).any(|window| window == [b'x'; 64]));
}

fn blake(made: &Made) -> Vec<u8> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    std::io::copy(&mut std::fs::File::open(&made.path).unwrap(), &mut HashWriter(&mut hash)).unwrap();
    hash.finalize().to_vec()
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The model: paths to nodes; hard links share a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelNode {
    mode: u32,
    uid: u32,
    mtime: i64,
    content: Content,
    attribute: Option<Vec<u8>>,
}

#[derive(Default)]
pub struct Model {
    nodes: Vec<ModelNode>,
    paths: BTreeMap<String, usize>,
}

impl Model {
    fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || self.paths.get(path).is_some_and(|node| self.nodes[*node].content == Content::Directory)
    }

    fn remove_below(&mut self, path: &str) {
        let prefix = format!("{path}/");
        self.paths.retain(|other, _| !other.starts_with(&prefix));
    }

    fn hide(&mut self, path: &str) {
        self.remove_below(path);
        self.paths.remove(path);
    }

    fn add(&mut self, path: &str, node: ModelNode) {
        if node.content != Content::Directory || !self.is_directory(path) {
            self.hide(path);
        }
        self.nodes.push(node);
        self.paths.insert(path.to_owned(), self.nodes.len() - 1);
    }

    fn pick(&self, random: &mut Random, wanted: impl Fn(&Content) -> bool) -> Option<String> {
        let fitting: Vec<&String> =
            self.paths.iter().filter(|(_, node)| wanted(&self.nodes[**node].content)).map(|(path, _)| path).collect();
        let count = fitting.len() as u64;
        (count > 0).then(|| fitting[usize::try_from(random.below(count)).unwrap()].clone())
    }
}

fn random_path(model: &Model, random: &mut Random) -> String {
    let mut path = match random.below(3) {
        0 => String::new(),
        _ => model.pick(random, |content| *content == Content::Directory).unwrap_or_default(),
    };
    let name = format!("n{}", random.below(6));
    if !path.is_empty() {
        path.push('/');
    }
    path + &name
}

fn random_node(random: &mut Random) -> ModelNode {
    let length = usize::try_from(random.below(9000)).unwrap();
    let byte = u8::try_from(random.below(256)).unwrap();
    let (mode, content) = match random.below(10) {
        0..4 => (0o040_755, Content::Directory),
        4..8 => (
            0o100_644 | [0, 0o4000, 0o2000][usize::try_from(random.below(3)).unwrap()],
            Content::File(vec![byte; length]),
        ),
        8 => (0o120_777, Content::Symlink(vec![b'a' + byte % 26; 1 + length % 120])),
        _ => (0o020_666, Content::Device { major: 1 + u32::from(byte), minor: u32::try_from(length).unwrap() }),
    };
    let attribute = match (&content, random.below(4)) {
        // Linux has none of a user's on links and devices.
        (Content::Directory | Content::File(_), 0) => Some(vec![b'v'; usize::try_from(random.below(300)).unwrap()]),
        _ => None,
    };
    ModelNode {
        mode,
        uid: u32::try_from(random.below(100_000)).unwrap(),
        mtime: i64::try_from(random.below(1 << 31)).unwrap(),
        content,
        attribute,
    }
}

enum Operation {
    Add(String, ModelNode),
    Link(String, String),
    Whiteout(String),
}

/// One random layer: applied to the model as the specification says, and returned as entries in some order.
fn random_layer(model: &mut Model, random: &mut Random) -> Vec<Operation> {
    let mut whiteouts = Vec::new();
    for _ in 0..random.below(4) {
        if random.below(3) == 0 {
            let directory = model.pick(random, |content| *content == Content::Directory).unwrap_or_default();
            let slash = if directory.is_empty() { "" } else { "/" };
            whiteouts.push(format!("{directory}{slash}.wh..wh..opq"));
            if directory.is_empty() { model.paths.clear() } else { model.remove_below(&directory) }
        } else if let Some(path) = model.pick(random, |_| true) {
            let (directory, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(at, name)| (at, name));
            let slash = if directory.is_empty() { "" } else { "/" };
            whiteouts.push(format!("{directory}{slash}.wh.{name}"));
            model.hide(&path);
        }
    }
    let mut operations: Vec<Operation> = Vec::new();
    let mut explicit: BTreeSet<String> = BTreeSet::new();
    for _ in 0..1 + random.below(25) {
        let path = random_path(model, random);
        // Every directory on the way stands in the layer, as in those that builders write.
        let parents: Vec<String> = path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect();
        for parent in parents {
            if explicit.insert(parent.clone()) {
                let node = ModelNode { content: Content::Directory, mode: 0o040_711, ..random_node(random) };
                model.add(&parent, node.clone());
                operations.push(Operation::Add(parent, node));
            }
        }
        let target = model.pick(random, |content| matches!(content, Content::File(_))).filter(|_| random.below(6) == 0);
        match target {
            Some(target) if target != path && !target.starts_with(&format!("{path}/")) => {
                let node = model.paths[&target];
                model.hide(&path);
                model.paths.insert(path.clone(), node);
                operations.push(Operation::Link(path.clone(), target));
            }
            _ => {
                let node = random_node(random);
                model.add(&path, node.clone());
                operations.push(Operation::Add(path.clone(), node));
            }
        }
        // What replaced a directory took the directories below along.
        explicit.retain(|parent| model.is_directory(parent));
        if model.is_directory(&path) {
            explicit.insert(path);
        }
    }
    for whiteout in whiteouts {
        // Behind an entry that replaces a directory above it, the whiteout would mean another place.
        let replaced = operations.iter().any(|operation| match operation {
            Operation::Add(path, node) => {
                node.content != Content::Directory && whiteout.starts_with(&format!("{path}/"))
            }
            Operation::Link(path, _) => whiteout.starts_with(&format!("{path}/")),
            Operation::Whiteout(_) => false,
        });
        let last = if replaced { 1 } else { operations.len() as u64 + 1 };
        let at = usize::try_from(random.below(last)).unwrap();
        operations.insert(at, Operation::Whiteout(whiteout));
    }
    operations
}

fn encode(operations: Vec<Operation>) -> Vec<u8> {
    let mut layer = Layer::new();
    for operation in operations {
        match operation {
            Operation::Whiteout(path) => layer = layer.file(&path, ""),
            Operation::Link(path, target) => layer = layer.hard_link(&path, &target),
            Operation::Add(path, node) => {
                if let Some(value) = &node.attribute {
                    layer.tar().append_pax_extensions([("SCHILY.xattr.user.v", value.as_slice())]).unwrap();
                }
                let (kind, content): (_, &[u8]) = match &node.content {
                    Content::Directory => (tar::EntryType::Directory, b""),
                    Content::File(bytes) => (tar::EntryType::Regular, bytes),
                    Content::Symlink(_) => (tar::EntryType::Symlink, b""),
                    _ => (tar::EntryType::Char, b""),
                };
                let mut header = header(kind, node.mode & 0o7777, content.len() as u64);
                header.set_uid(u64::from(node.uid));
                header.set_gid(u64::from(node.uid / 2));
                header.set_mtime(u64::try_from(node.mtime).unwrap());
                match &node.content {
                    Content::Symlink(target) if target.len() > 100 => {
                        let target = String::from_utf8(target.clone()).unwrap();
                        layer.tar().append_link(&mut header, &path, &target).unwrap();
                        continue;
                    }
                    Content::Symlink(target) => header.set_link_name_literal(target).unwrap(),
                    Content::Device { major, minor } => {
                        header.set_device_major(*major).unwrap();
                        header.set_device_minor(*minor).unwrap();
                    }
                    _ => {}
                }
                layer.raw(&mut header, &path, content);
            }
        }
    }
    layer.bytes()
}

fn assert_same(made: &Made, model: &Model, seed: u64) {
    let mut tree = made.tree();
    tree.remove(&b""[..]);
    let found: Vec<String> = tree.keys().map(|path| String::from_utf8(path.clone()).unwrap()).collect();
    let wanted: Vec<String> = model.paths.keys().cloned().collect();
    assert_eq!(found, wanted, "seed {seed}");
    let mut partner: BTreeMap<u64, usize> = BTreeMap::new();
    for (path, number) in &model.paths {
        let (node, wanted) = (&tree[path.as_bytes()], &model.nodes[*number]);
        let found = ModelNode {
            mode: node.mode,
            uid: node.uid,
            mtime: node.mtime,
            content: node.content.clone(),
            attribute: node.xattrs.get(&b"user.v"[..]).cloned(),
        };
        assert_eq!((&found, node.gid), (wanted, wanted.uid / 2), "seed {seed}, {path}");
        assert_eq!(*partner.entry(node.inode).or_insert(*number), *number, "seed {seed}, {path} shares an inode");
        if wanted.content != Content::Directory {
            let names = model.paths.values().filter(|other| *other == number).count();
            assert_eq!(node.links as usize, names, "seed {seed}, {path}");
        }
    }
}

/// A stack of layers, and what it should become.
pub fn random_stack(seed: u64) -> (Vec<Vec<u8>>, Model) {
    let mut random = Random(seed);
    let mut model = Model::default();
    let layers = (0..1 + random.below(5)).map(|_| encode(random_layer(&mut model, &mut random))).collect();
    (layers, model)
}

#[test]
fn random_stacks_equal_the_model() {
    for seed in 0..150 {
        let (layers, model) = random_stack(seed);
        let made = flatten(layers.iter().map(Vec::as_slice), Limits::default())
            .unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert_same(&made, &model, seed);
        if seed % 5 == 0 {
            made.assert_clean();
        }
    }
}
