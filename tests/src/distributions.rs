//! Roots of distributions, made of the packages of this host's: what no image that is written by hand has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::programs::target_directory;
use crate::slots;

const PACKAGES: &str = "--include=git,curl,python3,libcap2-bin,iputils-ping,sudo,ca-certificates";

/// A small Debian with setuid programs, capabilities and hard links as one tar file, made once. It has neither an
/// init nor an SSH server.
///
/// # Panics
/// If mmdebstrap fails.
pub fn debian() -> PathBuf {
    let path = target_directory().join("bench/debian.tar");
    let _lock = slots::exclusive("debian-tar");
    if !path.exists() {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("the target directory is writable");
        let unfinished = path.with_extension("unfinished.tar");
        run(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", PACKAGES, "bookworm"]).arg(&unfinished));
        std::fs::rename(&unfinished, &path).expect("the target directory is writable");
    }
    path
}

/// A layer made by a Python script that gets `tar`, an open tar file, and `add(name, type, data, **fields)`: device
/// nodes and links to other layers need no root there.
///
/// # Panics
/// If the script fails.
pub fn layer(path: &Path, script: &str) {
    let program = format!("{PRELUDE}\n{script}\ntar.close()\n");
    run(Command::new("python3").args(["-c", &program]).arg(path));
}

const PRELUDE: &str = "import io, sys, tarfile
tar = tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT)
def add(name, type=tarfile.REGTYPE, data='', **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = type, len(data), 1700000000
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data.encode()))";

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
