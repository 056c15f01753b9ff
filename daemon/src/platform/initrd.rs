//! The one initrd file a VMM takes: three archives in a row, as the kernel unpacks them.
//!
//! banger-guest as /init with the directories it mounts on, the kernel's early modules, and the seed. The
//! file holds the guest's private key: it is made for its owner only and removed once the VMM has read it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use banger_proto::failure::Kind;
use banger_proto::guest::v1::Seed;
use banger_proto::guest_contract::{INITRD_MODULES, SEED_PATH};
use prost::Message as _;

use super::{PlatformError, elf, error};
use crate::kernel::cpio::CpioWriter;

/// What banger-guest expects to find; /dev/console comes with every kernel's built-in archive.
const DIRECTORIES: [&str; 7] = ["dev", "proc", "sys", "newroot", "run", "tmp", "banger"];
/// The kernel finds an archive behind another only at a multiple of this.
const ALIGNMENT: u64 = 4;

/// What goes into it.
pub struct Parts<'a> {
    /// Becomes /init.
    pub guest_binary: &'a Path,
    /// An archive of its own, copied as it is.
    pub modules_cpio: &'a Path,
    /// Becomes [`SEED_PATH`].
    pub seed: &'a Seed,
}

/// Writes the file, replacing one a crash left behind. Blocks.
///
/// # Errors
/// Naming the file that could not be read or written; what was written is removed.
pub fn write(destination: &Path, parts: &Parts<'_>) -> Result<(), PlatformError> {
    remove(destination)?;
    let written = write_new(destination, parts);
    if written.is_err() {
        // The first error stays; a file that cannot be removed is replaced by the next launch.
        let _ = std::fs::remove_file(destination);
    }
    written
}

/// Removes the file if it is there.
///
/// # Errors
/// Naming it.
pub fn remove(destination: &Path) -> Result<(), PlatformError> {
    match std::fs::remove_file(destination) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(error::on_path("cannot remove", destination, source))
        }
        _ => Ok(()),
    }
}

fn write_new(destination: &Path, parts: &Parts<'_>) -> Result<(), PlatformError> {
    let unreadable = |source| error::on_path("cannot read the guest binary", parts.guest_binary, source);
    let mut guest = File::open(parts.guest_binary).map_err(unreadable)?;
    let size = guest.metadata().map_err(unreadable)?.len();
    let mut beginning = Vec::new();
    (&mut guest).take(elf::BEGINNING).read_to_end(&mut beginning).and_then(|_| guest.rewind()).map_err(unreadable)?;
    if elf::needs_loader(&beginning) {
        let attempt = format!("the guest binary {} is dynamically linked", parts.guest_binary.display());
        return Err(error::plain(Kind::HostNotReady, attempt).hint(
            "Build the static one with `make build`, or name it with `BANGER_GUEST_BINARY=/path/to/banger-guest`.",
        ));
    }
    let mut modules = File::open(parts.modules_cpio)
        .map_err(|source| error::on_path("cannot read the kernel's early modules", parts.modules_cpio, source))?;

    // What is long goes from file to file within the kernel.
    let mut write_all = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(destination)?;
        let mut archive = CpioWriter::new();
        for directory in DIRECTORIES.into_iter().chain([in_archive(INITRD_MODULES)]) {
            archive.directory(directory, 0o755);
        }
        let size = u32::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        file.write_all(&archive.file_to_come("init", 0o755, size))?;
        if io::copy(&mut guest, &mut file)? != u64::from(size) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the guest binary changed while it was read"));
        }
        align(&mut file)?;
        file.write_all(&archive.finish())?;
        align(&mut file)?;
        io::copy(&mut modules, &mut file)?;
        align(&mut file)?;
        file.write_all(&seed_archive(parts.seed))?;
        align(&mut file)
    };
    write_all().map_err(|source| error::on_path("cannot write", destination, source))
}

fn seed_archive(seed: &Seed) -> Vec<u8> {
    let mut archive = CpioWriter::new();
    archive.file(in_archive(SEED_PATH), 0o600, &seed.encode_to_vec());
    archive.finish()
}

/// Names in an archive are relative to the root.
fn in_archive(path: &'static str) -> &'static str {
    path.trim_start_matches('/')
}

fn align(file: &mut File) -> io::Result<()> {
    let excess = file.metadata()?.len() % ALIGNMENT;
    if excess == 0 { Ok(()) } else { file.write_all(&[0; ALIGNMENT as usize][..(ALIGNMENT - excess) as usize]) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_archives_follow_each_other_aligned_and_private() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        std::fs::write(at("guest"), b"guest binary").unwrap();
        // An odd length: the seed must still be found behind it.
        std::fs::write(at("modules"), b"07070MODULES").unwrap();
        std::fs::write(at("initrd"), b"left by a crash").unwrap();
        let seed = Seed { hostname: "box".into(), ..Seed::default() };
        let (guest_binary, modules_cpio) = (&*at("guest"), &*at("modules"));
        write(&at("initrd"), &Parts { guest_binary, modules_cpio, seed: &seed }).unwrap();

        let initrd = std::fs::read(at("initrd")).unwrap();
        assert_eq!(std::fs::metadata(at("initrd")).unwrap().permissions().mode() & 0o777, 0o600);
        let positions: Vec<usize> =
            initrd.windows(5).enumerate().filter(|(_, window)| window == b"07070").map(|(at, _)| at).collect();
        assert!(positions.len() > 4 && positions.iter().all(|at| at % 4 == 0), "{positions:?}");
        let encoded = seed.encode_to_vec();
        assert!(initrd.windows(encoded.len()).any(|window| window == encoded));
    }

    #[test]
    fn a_missing_part_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let destination = scratch.path().join("initrd");
        let missing = scratch.path().join("missing");
        let parts = Parts { guest_binary: &missing, modules_cpio: &missing, seed: &Seed::default() };
        let error = write(&destination, &parts).unwrap_err();
        assert!(error.attempt.contains("missing"), "{}", error.attempt);
        assert!(!destination.exists());
    }
}
