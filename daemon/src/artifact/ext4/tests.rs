//! Filesystems made here are judged by e2fsprogs: `e2fsck -fn` must find nothing and debugfs must see what
//! went in. Without e2fsprogs these tests say so and pass.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::artifact::tarball::write_tarball;

const SMALL: Shape =
    Shape { uuid: [7; 16], label: "test", minimum_bytes: 64 << 20, spare_bytes: 16 << 20, journal: Journal::Internal };

struct Made {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn make(shape: &Shape, fill: impl FnOnce(&mut Ext4Writer)) -> Made {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fs.ext4");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let mut writer = Ext4Writer::new(file, shape.clone());
    fill(&mut writer);
    writer.finish().unwrap();
    Made { _directory: directory, path }
}

#[allow(clippy::print_stderr)]
fn tool(name: &str, arguments: &[&str], path: &Path) -> Option<(bool, String)> {
    let search = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    match Command::new(name).args(arguments).arg(path).env("PATH", search).output() {
        Ok(output) => {
            let text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            Some((output.status.success(), text))
        }
        Err(error) => {
            eprintln!("skipped: cannot run {name}: {error}");
            None
        }
    }
}

fn assert_clean(made: &Made) {
    if let Some((clean, text)) = tool("e2fsck", &["-fn"], &made.path) {
        assert!(clean, "{text}");
    }
}

/// Output of one debugfs request; none if there is no debugfs.
fn debugfs(made: &Made, request: &str) -> Option<String> {
    tool("debugfs", &["-R", request], &made.path).map(|(_, text)| text)
}

fn assert_shows(made: &Made, request: &str, wanted: &[&str]) {
    let Some(text) = debugfs(made, request) else { return };
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for want in wanted {
        assert!(flat.contains(want), "{request} should show {want:?}: {text}");
    }
}

fn owned(permissions: u16, uid: u32, gid: u32) -> Metadata {
    Metadata { permissions, uid, gid, mtime: 1_700_000_000, ..Metadata::default() }
}

fn add_file(writer: &mut Ext4Writer, path: &str, mut content: &[u8]) {
    writer.add(path.as_bytes(), owned(0o644, 0, 0), Content::File(&mut content)).unwrap();
}

#[test]
fn an_empty_filesystem_is_clean_with_and_without_journal() {
    for journal in [Journal::None, Journal::Internal] {
        let made = make(&Shape { journal, ..SMALL }, |_| {});
        assert_clean(&made);
        let has = tool("dumpe2fs", &["-h"], &made.path);
        assert!(has.is_none_or(|(_, text)| text.contains("has_journal") == (journal == Journal::Internal)));
    }
}

#[test]
fn every_kind_of_entry_keeps_owner_mode_and_content() {
    let long = "t".repeat(300);
    let made = make(&SMALL, |writer| {
        writer.add(b"dir", owned(0o2750, 100_000, 70_000), Content::Directory).unwrap();
        add_file(writer, "dir/file", b"hello\n");
        writer.add(b"bin/su", owned(0o4755, 0, 0), Content::File(&mut &b"ELF"[..])).unwrap();
        writer.hard_link(b"bin/also-su", b"bin/su").unwrap();
        writer.add(b"short", owned(0o777, 0, 0), Content::Symlink(b"dir/file")).unwrap();
        writer.add(b"long", owned(0o777, 0, 0), Content::Symlink(long.as_bytes())).unwrap();
        writer.add(b"dev/null", owned(0o666, 0, 0), Content::Character { major: 1, minor: 3 }).unwrap();
        writer.add(b"dev/far", owned(0o660, 0, 6), Content::Block { major: 259, minor: 70_000 }).unwrap();
        writer.add(b"run/fifo", owned(0o600, 1, 1), Content::Fifo).unwrap();
        add_file(writer, "empty", b"");
    });
    assert_clean(&made);
    assert_shows(&made, "stat /dir", &["Type: directory Mode: 02750", "User: 100000 Group: 70000", "Links: 2"]);
    assert_shows(&made, "cat /dir/file", &["hello"]);
    assert_shows(&made, "stat /bin/su", &["Mode: 04755", "Links: 2", "2023"]);
    assert_shows(&made, "stat /bin/also-su", &["Mode: 04755", "Links: 2"]);
    assert_shows(&made, "stat /short", &["Type: symlink", "Fast link dest: \"dir/file\""]);
    assert_shows(&made, "cat /long", &[&long]);
    assert_shows(&made, "stat /dev/null", &["Type: character special", "Device major/minor number: 01:03"]);
    assert_shows(&made, "stat /dev/far", &["Type: block special", "Device major/minor number: 259:70000"]);
    assert_shows(&made, "stat /run/fifo", &["Type: FIFO"]);
    assert_shows(&made, "stat /empty", &["Size: 0"]);
}

#[test]
fn extended_attributes_survive_in_the_inode_and_in_a_block() {
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let big = vec![b'x'; 2000];
    let acl: Vec<u8> = [2u32.to_le_bytes().to_vec()]
        .into_iter()
        .chain(
            [(1u16, 7u16, u32::MAX), (4, 5, u32::MAX), (8, 5, 4), (16, 5, u32::MAX), (32, 5, u32::MAX)]
                .map(|(tag, bits, id)| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()),
        )
        .flatten()
        .collect();
    let with = |pairs: &[(&str, &[u8])]| Metadata {
        xattrs: pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect(),
        ..owned(0o755, 0, 0)
    };
    let made = make(&SMALL, |writer| {
        let inline = with(&[("security.capability", &capability)]);
        writer.add(b"ping", inline, Content::File(&mut &b"ELF"[..])).unwrap();
        let block =
            with(&[("user.big", &big), ("user.a", b"1"), ("trusted.b", b"22"), ("security.capability", &capability)]);
        writer.add(b"big", block, Content::File(&mut &b"data"[..])).unwrap();
        let lists = with(&[("system.posix_acl_access", &acl), ("system.posix_acl_default", &acl)]);
        writer.add(b"journal", lists, Content::Directory).unwrap();
    });
    assert_clean(&made);
    assert_shows(&made, "ea_list /ping", &["security.capability (20) = 01 00 00 02 00 20"]);
    assert_shows(&made, "ea_get /big user.big", &[&"x".repeat(2000)]);
    assert_shows(&made, "ea_list /big", &["user.a (1) = \"1\"", "trusted.b (2) = \"22\"", "security.capability (20)"]);
    // Four bytes an entry, eight for the named group: the form on disk, not the one of the system calls.
    assert_shows(
        &made,
        "ea_list /journal",
        &["system.posix_acl_access (28) = 01 00 00 00 01 00 07 00", "system.posix_acl_default (28)"],
    );
}

#[test]
fn directories_of_many_blocks_and_the_longest_names_are_complete() {
    let longest = "n".repeat(255);
    let made = make(&SMALL, |writer| {
        for index in 0..3000 {
            add_file(writer, &format!("many/{index:0width$}", width = 1 + index % 60), b"");
        }
        add_file(writer, &format!("many/{longest}"), b"found\n");
        let deep = vec!["d"; 40].join("/");
        add_file(writer, &deep, b"deep\n");
        add_file(writer, "sp ace \"quoted\" \u{e9}\n", b"");
    });
    assert_clean(&made);
    assert_shows(&made, &format!("cat /many/{longest}"), &["found"]);
    assert_shows(&made, "cat /many/2999", &["not found"]);
    assert_shows(&made, &format!("cat /many/{:0width$}", 2999, width = 1 + 2999 % 60), &[]);
    if let Some(text) = debugfs(&made, "ls -p /many") {
        assert_eq!(text.lines().filter(|line| line.starts_with('/')).count(), 3003, "entries, . and ..");
    }
}

#[test]
fn files_with_an_extent_tree_are_read_back_whole_and_zeros_cost_nothing() {
    const SIZE: u64 = 700 << 20;
    struct Mostly(u64);
    impl Read for Mostly {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let left = usize::try_from(SIZE - self.0).unwrap_or(usize::MAX).min(buffer.len());
            buffer[..left].fill(0);
            if self.0 == 0 && left > 4 {
                buffer[..4].copy_from_slice(b"head");
            }
            self.0 += left as u64;
            if self.0 == SIZE && left >= 4 {
                buffer[left - 4..left].copy_from_slice(b"tail");
            }
            Ok(left)
        }
    }
    let made = make(&Shape { minimum_bytes: 1 << 30, ..SMALL }, |writer| {
        writer.add(b"large", owned(0o600, 0, 0), Content::File(&mut Mostly(0))).unwrap();
        add_file(writer, "after", b"after\n");
    });
    assert_clean(&made);
    assert!(crate::artifact::allocated(&made.path) < 16 << 20, "zeros must stay holes");
    assert_shows(&made, "cat /after", &["after"]);
    let copy = made.path.with_extension("copy");
    if debugfs(&made, &format!("dump /large {}", copy.display())).is_some() {
        let mut file = File::open(&copy).unwrap();
        assert_eq!(file.metadata().unwrap().len(), SIZE);
        let mut word = [0u8; 4];
        file.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"head");
        file.seek(SeekFrom::End(-4)).unwrap();
        file.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"tail");
    }
}

#[test]
fn replaced_and_removed_entries_leave_a_clean_filesystem() {
    let made = make(&SMALL, |writer| {
        add_file(writer, "a/file", &[1; 9000]);
        writer.hard_link(b"a/link", b"a/file").unwrap();
        add_file(writer, "a/file", b"second\n");
        writer.hard_link(b"a/self", b"a/self").unwrap_err();
        add_file(writer, "tree/x/y/z", &[2; 5000]);
        writer.remove(b"tree/x");
        add_file(writer, "was-dir/inner", b"");
        add_file(writer, "was-dir", b"now a file\n");
        writer.add(b"was-file/in", owned(0o755, 0, 0), Content::Directory).unwrap();
        writer.remove(b"nothing/here");
    });
    assert_clean(&made);
    assert_shows(&made, "cat /a/file", &["second"]);
    assert_shows(&made, "stat /a/link", &["Size: 9000", "Links: 1"]);
    assert_shows(&made, "stat /tree", &["Links: 2"]);
    assert_shows(&made, "cat /was-dir", &["now a file"]);
}

#[test]
fn a_hard_link_may_replace_another_name_of_the_same_file() {
    let made = make(&SMALL, |writer| {
        add_file(writer, "a", b"kept\n");
        writer.hard_link(b"b", b"a").unwrap();
        writer.hard_link(b"b", b"a").unwrap();
        writer.hard_link(b"a", b"a").unwrap();
    });
    assert_clean(&made);
    assert_shows(&made, "cat /a", &["kept"]);
    assert_shows(&made, "stat /b", &["Links: 2"]);
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::create(directory.path().join("fs")).unwrap();
    let mut writer = Ext4Writer::new(file, SMALL);
    for path in ["../x", "a/../../x", "a\0b", &"n".repeat(256)] {
        let error = writer.add(path.as_bytes(), Metadata::default(), Content::Fifo).unwrap_err();
        assert!(matches!(error, Ext4Error::UnsafePath { .. }), "{path:?}");
    }
    add_file(&mut writer, "file", b"");
    let below = writer.add(b"file/x", Metadata::default(), Content::Fifo).unwrap_err();
    assert!(matches!(below, Ext4Error::NotADirectory { .. }));
}

#[test]
fn the_geometry_holds_content_metadata_and_spare_room() {
    for (content, inodes) in [(70, 11), (200_000, 20_000), (3_000_000, 50), (500_000, 2_000_000)] {
        let shape = Shape { minimum_bytes: 8 << 30, spare_bytes: 4 << 30, ..SMALL };
        let plan = layout::plan(content, inodes, &shape).unwrap();
        assert!(u64::from(plan.blocks) * BLOCK >= 8 << 30);
        assert!(u64::from(plan.blocks - plan.end) * BLOCK >= 4 << 30);
        assert!(plan.groups * plan.inodes_per_group > inodes);
        assert!(plan.blocks <= plan.groups * 32768 && plan.blocks > (plan.groups - 1) * 32768);
    }
}

#[test]
fn random_trees_are_clean() {
    let mut state = 42u64;
    let mut next = move |below: u64| {
        // Numerical Recipes' generator; the high bits are random enough to shape a tree.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..8 {
        let made = make(&SMALL, |writer| {
            for _ in 0..400 {
                let path: Vec<String> = (0..=next(4)).map(|_| format!("n{}", next(9))).collect();
                let path = path.join("/");
                let content = vec![u8::try_from(next(255)).unwrap(); usize::try_from(next(20_000)).unwrap()];
                // Refusals (a file in the way, a dangling link) are part of the game; the result must be clean.
                let _ = match next(8) {
                    0 => writer.hard_link(path.as_bytes(), format!("n{}/n{}", next(9), next(9)).as_bytes()),
                    1 => {
                        writer.remove(path.as_bytes());
                        Ok(())
                    }
                    2 => writer.add(path.as_bytes(), owned(0o755, 5, 5), Content::Directory),
                    3 => writer.add(
                        path.as_bytes(),
                        owned(0o777, 5, 5),
                        Content::Symlink(&content[..content.len().min(100)]),
                    ),
                    _ => writer.add(path.as_bytes(), owned(0o644, 5, 5), Content::File(&mut content.as_slice())),
                };
            }
        });
        assert_clean(&made);
    }
}

#[test]
fn a_tar_stream_arrives_with_all_its_metadata() {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, mode: u32, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(1234);
        header.set_gid(5678);
        header.set_mtime(1_700_000_000);
        header
    };
    let long = format!("opt/{}", "x".repeat(200));
    tar.append_data(&mut header(tar::EntryType::Directory, 0o1777, 0), "./tmp/", std::io::empty()).unwrap();
    tar.append_pax_extensions([("SCHILY.xattr.security.capability", &[1u8, 0, 0, 2, 0, 0x20, 0, 0][..])]).unwrap();
    tar.append_data(&mut header(tar::EntryType::Regular, 0o4755, 4), "./usr/bin/ping", &b"ELF\n"[..]).unwrap();
    tar.append_link(&mut header(tar::EntryType::Link, 0o4755, 0), "./usr/bin/ping4", "./usr/bin/ping").unwrap();
    tar.append_data(&mut header(tar::EntryType::Regular, 0o600, 200_000), &long, std::io::repeat(b'z').take(200_000))
        .unwrap();
    let mut node = header(tar::EntryType::Char, 0o666, 0);
    node.set_device_major(1).unwrap();
    node.set_device_minor(5).unwrap();
    tar.append_data(&mut node, "dev/zero", std::io::empty()).unwrap();
    let bytes = tar.into_inner().unwrap();
    let mut seen = Vec::new();
    let made = make(&SMALL, |writer| {
        write_tarball(bytes.as_slice(), writer, &mut |entry| seen.push(entry.path.to_vec())).unwrap();
    });
    assert_clean(&made);
    assert_eq!(seen.first().map(Vec::as_slice), Some(&b"tmp"[..]));
    assert_eq!(seen.len(), 5);
    assert_shows(&made, "stat /tmp", &["Mode: 01777", "User: 1234 Group: 5678"]);
    assert_shows(&made, "stat /usr/bin/ping4", &["Mode: 04755", "Links: 2"]);
    assert_shows(&made, "ea_list /usr/bin/ping", &["security.capability (8)"]);
    assert_shows(&made, &format!("stat /{long}"), &["Size: 200000", "Mode: 0600"]);
    assert_shows(&made, "stat /dev/zero", &["Device major/minor number: 01:05"]);
}

#[test]
fn a_cut_tar_stream_is_an_error() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(100_000);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", std::io::repeat(b'z').take(100_000)).unwrap();
    let bytes = tar.into_inner().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Ext4Writer::new(File::create(directory.path().join("fs")).unwrap(), SMALL);
    assert!(write_tarball(&bytes[..50_000], &mut writer, &mut |_| {}).is_err());
}
