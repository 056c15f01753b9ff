//! What is read beneath a home, with real directories.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};

use super::*;

struct Home {
    place: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("home")).unwrap();
        std::fs::write(place.path().join("secret"), b"outside").unwrap();
        Self { place }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.path().join("home").join(path)
    }

    fn write(&self, path: &str, content: &[u8], mode: u32) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        set_mode(&path, mode);
    }

    fn link(&self, target: &str, path: &str) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn fifo(&self, path: &str) {
        rustix::fs::mkfifoat(rustix::fs::CWD, self.at(path), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    }

    fn read(&self, entries: &[(&str, &str, Option<u32>)]) -> Result<Files, FilesError> {
        let wanted: Vec<Wanted> = (1..)
            .zip(entries)
            .map(|(entry, (host, guest, mode))| Wanted {
                entry,
                host: host.into(),
                shown: format!("~/{host}"),
                guest: TreePath::parse(guest.as_bytes()).unwrap(),
                mode: *mode,
            })
            .collect();
        Files::read(&self.at(""), &wanted)
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// `path mode content`, a slash after a directory, an arrow before a link's target.
fn listing(files: &Files) -> Vec<String> {
    let show = |item: &Item| match &item.piece.what {
        What::File { size, digest } => {
            assert_eq!((*size, *digest), (item.content.len() as u64, blake3::hash(&item.content)));
            format!("{} {:o} {}", item.piece.path, item.piece.mode, String::from_utf8_lossy(&item.content))
        }
        What::Directory => format!("{}/ {:o}", item.piece.path, item.piece.mode),
        What::Symlink { target } => format!("{} -> {}", item.piece.path, String::from_utf8_lossy(target)),
    };
    files.items.iter().map(show).collect()
}

#[test]
fn a_file_has_the_mode_given_or_a_private_one_and_a_directory_its_own() {
    let home = Home::new();
    home.write(".netrc", b"secret", 0o644);
    home.write(".config/tool/rc", b"a", 0o640);
    home.write(".config/tool/bin/run", b"b", 0o755);
    set_mode(&home.at(".config/tool/bin"), 0o750);
    set_mode(&home.at(".config/tool"), 0o700);
    let entries = [
        (".netrc", ".netrc", None),
        (".netrc", "etc/netrc", Some(0o444)),
        (".config/tool", ".config/other", Some(0o600)),
    ];
    let files = home.read(&entries).unwrap();
    assert_eq!(
        listing(&files),
        [
            ".config/ 700",
            ".config/other/ 700",
            ".config/other/bin/ 750",
            ".config/other/bin/run 755 b",
            ".config/other/rc 640 a",
            ".netrc 600 secret",
            "etc/ 700",
            "etc/netrc 444 secret",
        ]
    );
    assert_eq!((files.count(), files.bytes()), (4, 14));
    assert!(matches!(files.warnings(), [one] if one.contains("entry 3") && one.contains("`mode` is for files")));
    assert!(!format!("{files:?}").contains("secret"), "contents may be secrets");
}

#[test]
fn a_link_that_leaves_the_home_is_refused() {
    let home = Home::new();
    home.write("real/file", b"x", 0o600);
    let outside = home.place.path().join("secret");
    home.link("../secret", "relative");
    home.link(outside.to_str().unwrap(), "absolute");
    home.link("..", "up");
    home.link("/proc/self/root", "magic");
    for host in ["relative", "absolute", "up", "up/secret", "magic/etc/passwd"] {
        let refused = home.read(&[(host, "x", None)]).unwrap_err();
        assert!(matches!(refused, FilesError::Leaves { entry: 1, .. }), "{host}: {refused:?}");
        assert_eq!(refused.kind(), Kind::Usage);
        assert!(refused.to_string().contains(&format!("~/{host} leads out of your home")), "{refused}");
    }
    // One that stays is what it leads to.
    home.link("real", "inside");
    let files = home.read(&[("inside/file", "x", None)]).unwrap();
    assert_eq!(listing(&files), ["x 600 x"]);
    home.link("loop", "loop");
    assert!(matches!(home.read(&[("loop", "x", None)]), Err(FilesError::Io { .. })));
}

#[test]
fn links_in_a_directory_are_kept_where_they_stay_in_it() {
    let home = Home::new();
    home.write("d/sub/file", b"x", 0o600);
    home.write("beside", b"y", 0o600);
    home.link("sub/file", "d/kept");
    home.link("../kept", "d/sub/up");
    home.link("nowhere", "d/dangling");
    home.link("circle", "d/circle");
    home.link("../beside", "d/out");
    home.link("/etc/passwd", "d/absolute");
    home.link("sub/../../beside", "d/winding");
    // By its words it stays; as it resolves it does not.
    home.link("../sub", "d/deep/er");
    home.link("er/../../beside", "d/deep/sly");
    let files = home.read(&[("d", "d", None)]).unwrap();
    let links: Vec<String> = listing(&files).into_iter().filter(|line| line.contains("->")).collect();
    assert_eq!(
        links,
        [
            "d/circle -> circle",
            "d/dangling -> nowhere",
            "d/deep/er -> ../sub",
            "d/kept -> sub/file",
            "d/sub/up -> ../kept"
        ]
    );
    let left_out = ["d/absolute", "d/deep/sly", "d/out", "d/winding"];
    assert_eq!(files.warnings().len(), left_out.len(), "{:?}", files.warnings());
    for (warning, path) in files.warnings().iter().zip(left_out) {
        assert!(warning.contains(&format!("~/{path} is a link out of the directory")), "{warning}");
    }
}

#[test]
fn what_cannot_be_in_a_guest_is_left_out_with_a_warning() {
    let home = Home::new();
    home.write("d/file", b"x", 0o600);
    set_mode(&home.at("d"), 0o755);
    home.write("d/.git/config", b"x", 0o600);
    home.fifo("d/pipe");
    home.fifo("pipe");
    let _socket = std::os::unix::net::UnixListener::bind(home.at("d/socket")).unwrap();
    let entries = [("d", "d", None), ("pipe", "pipe", None), ("missing/file", "missing", None)];
    let files = home.read(&entries).unwrap();
    assert_eq!(listing(&files), ["d/ 755", "d/file 600 x"]);
    assert_eq!(files.count(), 1);
    let warnings = files.warnings();
    for (warning, wanted) in warnings.iter().zip([
        "entry 1: ~/d/.git is left out",
        "entry 1: ~/d/pipe is a pipe, socket or device",
        "entry 1: ~/d/socket is a pipe, socket or device",
        "entry 2: ~/pipe is no file and no directory",
        "entry 3: ~/missing/file is not there",
    ]) {
        assert!(warning.contains(wanted), "{warning}");
    }
    assert_eq!(warnings.len(), 5, "{warnings:?}");
}

#[test]
fn what_cannot_be_read_ends_it() {
    if rustix::process::geteuid().is_root() {
        // Only for others are there files that cannot be read; a directory where a file is named will do.
        eprintln!("in part skipped: root reads everything");
    } else {
        let home = Home::new();
        home.write("d/closed", b"x", 0);
        for host in ["d/closed", "d"] {
            let failed = home.read(&[(host, "x", None)]).unwrap_err();
            assert!(failed.to_string().contains("~/d/closed"), "{failed}");
            assert_eq!(failed.kind(), Kind::HostNotReady);
        }
    }
    let home = Home::new();
    home.write("file", b"x", 0o600);
    let failed = home.read(&[("file/below", "x", None)]).unwrap_err();
    assert!(matches!(failed, FilesError::Io { entry: 1, .. }), "{failed:?}");
}

#[test]
fn there_are_bounds() {
    let home = Home::new();
    std::fs::create_dir(home.at("many")).unwrap();
    for number in 0..PIECES_LIMIT {
        std::fs::File::create(home.at(&format!("many/{number}"))).unwrap();
    }
    assert!(matches!(home.read(&[("many", "many", None)]), Err(FilesError::TooMany { .. })));
    std::fs::remove_file(home.at("many/0")).unwrap();
    assert_eq!(home.read(&[("many", "many", None)]).unwrap().count(), PIECES_LIMIT - 1);

    // Sparse: large without taking space.
    let large = std::fs::File::create(home.at("large")).unwrap();
    large.set_len(BYTES_LIMIT + 1).unwrap();
    let refused = home.read(&[("large", "large", None)]).unwrap_err();
    assert!(refused.to_string().contains("~/large makes it more than 64 MiB in all"), "{refused}");
    assert_eq!(refused.kind(), Kind::Refused);
    large.set_len(BYTES_LIMIT).unwrap();
    assert_eq!(home.read(&[("large", "large", None)]).unwrap().bytes(), BYTES_LIMIT);

    let mut deep = PathBuf::from("deep");
    for _ in 0..DEPTH_LIMIT {
        deep.push("d");
    }
    std::fs::create_dir_all(home.at(deep.to_str().unwrap())).unwrap();
    assert!(matches!(home.read(&[("deep", "deep", None)]), Err(FilesError::TooDeep { .. })));
}

#[test]
fn two_sources_of_one_place_are_refused_and_directories_are_joined() {
    let home = Home::new();
    home.write("a/one", b"1", 0o600);
    home.write("b/two", b"2", 0o600);
    set_mode(&home.at("b"), 0o711);
    let files = home.read(&[("a", "d", None), ("b", "d", None)]).unwrap();
    assert_eq!(listing(&files), ["d/ 711", "d/one 600 1", "d/two 600 2"]);
    for second in ["d/one", "d/one/below", "d"] {
        let refused = home.read(&[("a", "d", None), ("b/two", second, None)]).unwrap_err();
        assert!(matches!(refused, FilesError::Twice { entry: 2, .. }), "{second}: {refused:?}");
    }
}
