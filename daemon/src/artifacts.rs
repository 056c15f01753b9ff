//! The image and kernel stores together, as VMs see them.

use std::sync::Arc;

use banger_proto::failure::Failure;
use banger_proto::names::{ImageName, KernelName};
use futures::future::BoxFuture;

use crate::artifact::stamp::FileStamp;
use crate::image::{ImageStore, Refresh};
use crate::kernel::KernelStore;
use crate::oci::cache::Prune;
use crate::reporter::Reporter;
use crate::vm::boot_source::{Artifacts, BootImage, BootKernel};
use crate::vm::record::BootSource;

/// What a VM boots from when nobody says.
const DEFAULT_IMAGE: &str = "debian-bookworm";

/// What pruning freed, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Builds.
    pub builds: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Freed {
    fn add(&mut self, bytes: u64) {
        self.builds += 1;
        self.bytes += bytes;
    }
}

/// Both stores.
pub struct Stores {
    /// Images.
    pub images: ImageStore,
    /// Kernels.
    pub kernels: KernelStore,
}

impl Stores {
    /// Removes builds that a later build replaced and no VM boots from, or says what that would free. Trouble is
    /// logged: it only costs space.
    pub fn prune_old_builds(&self, used: &[Arc<BootSource>], prune: Prune) -> Freed {
        let mut freed = Freed::default();
        for image in self.images.superseded() {
            if used.iter().any(|boot| boot.rootfs == image.rootfs) {
                continue;
            }
            let bytes = image.allocated_bytes - image.shared_bytes();
            match prune {
                Prune::DryRun => freed.add(bytes),
                Prune::Remove => match self.images.remove_superseded(&image) {
                    Ok(()) => freed.add(bytes),
                    Err(error) => {
                        tracing::warn!(image = %image.name, "an old build stays: {}", Failure::from_error(&error));
                    }
                },
            }
        }
        for kernel in self.kernels.superseded() {
            if used.iter().any(|boot| boot.vmlinux == kernel.vmlinux) {
                continue;
            }
            match prune {
                Prune::DryRun => freed.add(kernel.size_bytes),
                Prune::Remove => match self.kernels.remove_superseded(&kernel) {
                    Ok(()) => freed.add(kernel.size_bytes),
                    Err(error) => {
                        tracing::warn!(kernel = %kernel.name, "an old build stays: {}", Failure::from_error(&error));
                    }
                },
            }
        }
        freed
    }
}

impl Artifacts for Stores {
    fn image<'a>(
        &'a self,
        name: Option<&'a ImageName>,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<BootImage, Failure>> {
        Box::pin(async move {
            let default = || DEFAULT_IMAGE.parse().expect("the default image has a valid name");
            let name = name.cloned().unwrap_or_else(default);
            reporter.stage("image", format!("image {name}"));
            let found = self.images.ensure(&name, Refresh::IfAbsent, reporter).await;
            let image = found.map_err(|error| Failure::from_error(&error))?;
            if let Some(Err(error)) = image.in_place.as_ref().map(FileStamp::verify) {
                return Err(Failure::from_error(&error));
            }
            Ok(BootImage {
                name: image.name,
                id: image.id,
                rootfs: image.rootfs,
                rootfs_stamp: image.in_place,
                init_path: image.init_path,
                has_sshd: image.has_sshd,
                kernel: image.kernel,
                environment: image.environment,
                working_directory: image.working_directory,
                user: image.user,
            })
        })
    }

    fn kernel<'a>(
        &'a self,
        name: &'a KernelName,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<BootKernel, Failure>> {
        Box::pin(async move {
            reporter.stage("kernel", format!("kernel {name}"));
            let found = self.kernels.ensure(name, Refresh::IfAbsent, reporter).await;
            let kernel = found.map_err(|error| Failure::from_error(&error))?;
            Ok(BootKernel {
                name: kernel.name,
                vmlinux: kernel.vmlinux,
                modules_cpio: kernel.modules_cpio,
                modules_ext4: kernel.modules_ext4,
            })
        })
    }
}
