//! Where VMs boot from, as far as this module needs to know: the seam to the image and kernel stores.

use std::path::PathBuf;

use banger_proto::failure::Failure;
use banger_proto::names::{ImageId, ImageName, KernelName};
use futures::future::BoxFuture;

use crate::artifact::stamp::FileStamp;
use crate::reporter::Reporter;

/// Finds, and makes if need be, what a VM boots from.
pub trait Artifacts: Send + Sync {
    /// The image of that name, or the default image.
    fn image<'a>(
        &'a self,
        name: Option<&'a ImageName>,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<BootImage, Failure>>;

    /// The kernel of that name.
    fn kernel<'a>(&'a self, name: &'a KernelName, reporter: &'a Reporter)
    -> BoxFuture<'a, Result<BootKernel, Failure>>;
}

/// A root file system and what its maker said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootImage {
    /// Its name.
    pub name: ImageName,
    /// Of its content.
    pub id: ImageId,
    /// Read-only ext4.
    pub rootfs: PathBuf,
    /// How that file must look, if it is not the store's own.
    pub rootfs_stamp: Option<FileStamp>,
    /// Absolute path of its init.
    pub init_path: Option<String>,
    /// Has an SSH server on port 22.
    pub has_sshd: bool,
    /// The kernel it asks for.
    pub kernel: KernelName,
    /// From its configuration.
    pub environment: Vec<String>,
    /// From its configuration.
    pub working_directory: String,
    /// From its configuration.
    pub user: String,
}

/// A kernel and its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootKernel {
    /// Its name.
    pub name: KernelName,
    /// Uncompressed ELF.
    pub vmlinux: PathBuf,
    /// Modules for the initrd.
    pub modules_cpio: PathBuf,
    /// All modules.
    pub modules_ext4: PathBuf,
}
