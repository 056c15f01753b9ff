//! What goes into the host, laid out as a directory and, for the host in QEMU, packed as a disk.
//!
//! ```text
//! scenarios/          the scripts and their lib/
//! bin/                the product's programs as far as they are built, firecracker, jailer
//! kernels/NAME@BUILD/ a kernel, as it lies in banger's store
//! images/NAME@BUILD/  an image, likewise
//! microvm/            the kernel that is compiled, where it is to be compared
//! peer/               another product and an image for both, where they are to be compared
//! ```
//! A disk, because copying half a gigabyte by ssh into an emulated machine takes minutes and this takes seconds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bounded;
use crate::error::{Error, Result};
use crate::fixture;
use crate::host::machine::PAYLOAD_LABEL;
use crate::layout::Layout;
use crate::store::Kind;

/// The product's programs.
pub const PROGRAMS: [&str; 5] = ["banger", "bangerd", "bangerd-root", "banger-guest", "banger-build"];
/// What only the scenarios use.
pub const TEST_PROGRAMS: [&str; 1] = ["banger-boundary"];
const LIMIT: Duration = Duration::from_secs(300);
/// Sparse: only what is used is written.
const DISK_SIZE: u64 = 16 << 30;

/// What a payload is made of.
#[derive(Debug, Default)]
pub struct Parts {
    /// Directory with firecracker and jailer.
    pub fixture: Option<PathBuf>,
    /// A kernel's directory in a store.
    pub kernel: Option<PathBuf>,
    /// Likewise, of the one that is compiled.
    pub microvm_kernel: Option<PathBuf>,
    /// An image's directory in a store.
    pub image: Option<PathBuf>,
    /// What [`crate::peer`] made.
    pub peer: Option<PathBuf>,
}

/// The product's programs that are not built.
pub fn missing_programs(layout: &Layout) -> Vec<&'static str> {
    PROGRAMS.into_iter().chain(TEST_PROGRAMS).filter(|name| !layout.program(name).is_file()).collect()
}

/// Lays everything out in `directory`, which is empty.
pub fn assemble(layout: &Layout, parts: &Parts, directory: &Path) -> Result<()> {
    let log = layout.logs().join("payload.log");
    let programs = PROGRAMS.iter().chain(&TEST_PROGRAMS).map(|name| layout.program(name)).filter(|path| path.is_file());
    let fixture = parts.fixture.iter().flat_map(|from| fixture::names().map(|name| from.join(name)));
    let bin = directory.join("bin");
    fs::create_dir(&bin).map_err(Error::file("make", &bin))?;
    for program in programs.chain(fixture) {
        copy(&program, &bin, &log)?;
        let target = bin.join(program.file_name().unwrap_or_default());
        fs::set_permissions(&target, PermissionsExt::from_mode(0o755))
            .map_err(Error::file("make executable", &target))?;
    }
    copy(&layout.source("smoke/scenarios"), directory, &log)?;
    for (artifact, kind) in [(&parts.kernel, Kind::Kernel), (&parts.image, Kind::Image)] {
        if let Some(artifact) = artifact {
            let shelf = directory.join(kind.shelf());
            fs::create_dir(&shelf).map_err(Error::file("make", &shelf))?;
            copy(artifact, &shelf, &log)?;
        }
    }
    for (part, name) in [(&parts.microvm_kernel, "microvm"), (&parts.peer, "peer")] {
        if let Some(part) = part {
            copy(part, &directory.join(name), &log)?;
        }
    }
    Ok(())
}

impl Parts {
    /// What [`assemble`] names the kernel and the image; empty for what there is not.
    pub fn names(&self) -> [String; 2] {
        [(&self.kernel, Kind::Kernel), (&self.image, Kind::Image)].map(|(artifact, kind)| {
            let name = artifact.as_ref().and_then(|path| path.file_name());
            name.map_or_else(String::new, |name| format!("{}/{}", kind.shelf(), name.to_string_lossy()))
        })
    }
}

/// Packs a directory as a file system in a file.
pub fn pack(layout: &Layout, directory: &Path) -> Result<PathBuf> {
    let disk = layout.run("payload.raw");
    fs::File::create(&disk).and_then(|file| file.set_len(DISK_SIZE)).map_err(Error::file("make", &disk))?;
    let mut command = bounded::command("mke2fs", LIMIT);
    command.args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", PAYLOAD_LABEL]);
    command.args(["-E", "root_owner=0:0,lazy_itable_init=1,nodiscard", "-d"]).arg(directory).arg(&disk);
    // sbin is not on an ordinary user's PATH.
    let path = std::env::var_os("PATH").unwrap_or_default().into_string().unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    bounded::succeed("packing the payload", &mut command, &layout.logs().join("payload.log"))?;
    Ok(disk)
}

/// With holes, following no link out of the tree; contents may be shared with the source.
fn copy(source: &Path, into: &Path, log: &Path) -> Result<()> {
    let mut command = bounded::command("cp", LIMIT);
    command.args(["-R", "--sparse=always", "--reflink=auto"]).arg(source).arg(into);
    bounded::succeed(&format!("copying {}", source.display()), &mut command, log)
}
