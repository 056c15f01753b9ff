//! The jail's files, before the jailer closes it: made new for each launch, while only root can reach into it.
//!
//! ```text
//! /vmlinux      the kernel                 read-only      of the owner's store
//! /initrd       initramfs with the seed    read-only      of the VM's directory
//! /modules.ext4 the kernel's modules       read-only      of the owner's store
//! /work.ext4    the work disk                             of the VM's directory
//! /config.json  the orders, if there     read-only      of the VM's directory
//! /metrics.json what the machine monitor counts           of the VM's directory
//! /rootfs       the root disk, a node
//! ```
//! Files are mounted by the descriptor that was checked: there is no second look at their names.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use banger_proto::failure::{Classified as _, Kind};
use banger_proto::install::Owner;
use banger_proto::names::VmId;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, openat};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount_remount, move_mount, open_tree};

use crate::error::{Step, StepError, step};
use crate::host::files::{CheckedFile, OwnerDirectory};
use crate::kernel_names;
use crate::ledger::Machine;
use crate::syscalls::file_access::FilesAs;

/// The daemon's name for it; the guest's serial console and what the machine monitor says.
const CONSOLE_LOG: &str = "console.log";

/// How the machine monitor learns what machine it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    /// From [`CONFIG`], and it starts its guest at once.
    File,
    /// On its socket; it waits for them.
    Socket,
}

/// Where the orders are in the jail.
pub const CONFIG: &str = "/config.json";

/// Makes it.
pub fn make(files: &OwnerDirectory, vm: &VmId, machine: &Machine, owner: &Owner) -> Step<Orders> {
    let jail = kernel_names::jail(vm);
    let attempt = || format!("make the jail {}", jail.display());
    let (major, minor) =
        machine.root_device.ok_or_else(|| StepError::refused(attempt(), "the root disk is not active"))?;
    match fs::remove_dir_all(&jail) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StepError::new(attempt(), error)),
        _ => {}
    }
    let root = jail.join("root");
    // The owner may pass through to the machine monitor's socket; what is in `root` is closed until the jailer is done.
    fs::DirBuilder::new().mode(0o711).create(&jail).map_err(step(attempt()))?;
    fs::set_permissions(&jail, std::os::unix::fs::PermissionsExt::from_mode(0o711)).map_err(step(attempt()))?;
    fs::DirBuilder::new().mode(0o700).create(&root).map_err(step(attempt()))?;
    let kernel = |file: &str| kernel_names::kernel_file(&machine.kernel, &machine.build, file);
    bind(&files.check(&kernel("vmlinux"))?, &root.join("vmlinux"), MountFlags::RDONLY)?;
    bind(&files.check(&kernel("modules.ext4"))?, &root.join("modules.ext4"), MountFlags::RDONLY)?;
    bind(&files.check(&kernel_names::vm_file(vm, "initrd.cpio"))?, &root.join("initrd"), MountFlags::RDONLY)?;
    bind(&files.check(&kernel_names::vm_file(vm, "work.ext4"))?, &root.join("work.ext4"), MountFlags::empty())?;
    bind(&files.check(&kernel_names::vm_file(vm, "metrics.json"))?, &root.join("metrics.json"), MountFlags::empty())?;
    make_node(&root.join("rootfs"), (major, minor), owner)?;
    match files.check(&kernel_names::vm_file(vm, "config.json")) {
        Ok(config) => bind(&config, &root.join("config.json"), MountFlags::RDONLY).map(|()| Orders::File),
        Err(error) if error.kind() == Kind::NotFound => Ok(Orders::Socket),
        Err(error) => Err(error),
    }
}

/// The console log, opened with the owner's own rights: whatever they put there, they could have written themselves.
pub fn open_console(files: &OwnerDirectory, vm: &VmId, owner: &Owner) -> Step<File> {
    let attempt = || format!("open the console log of the VM {vm}");
    let directory: OwnedFd = files.directory(&kernel_names::vm_file(vm, ""))?;
    let _guard = FilesAs::user(owner.uid, owner.gid).map_err(step(attempt()))?;
    // NONBLOCK: a pipe without a reader must not hold us up.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let failed = |error: rustix::io::Errno| StepError::new(attempt(), io::Error::from(error));
    let console = openat(&directory, CONSOLE_LOG, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let found = fstat(&console).map_err(failed)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(StepError::refused(attempt(), "it is not a regular file"));
    }
    Ok(File::from(console))
}

fn bind(file: &CheckedFile, target: &Path, access: MountFlags) -> Step<()> {
    let attempt = || format!("mount {}", target.display());
    let failed = |error: rustix::io::Errno| StepError::new(attempt(), io::Error::from(error));
    File::options().write(true).create_new(true).mode(0o600).open(target).map_err(step(attempt()))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(file, "", flags).map_err(failed)?;
    move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)?;
    let restricted = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | access;
    mount_remount(target, restricted, "").map_err(failed)
}

fn make_node(path: &Path, (major, minor): (u32, u32), owner: &Owner) -> Step<()> {
    let failed =
        |error: rustix::io::Errno| StepError::new(format!("make the node {}", path.display()), io::Error::from(error));
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path, FileType::BlockDevice, mode, makedev(major, minor)).map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}
