//! The image and kernel stores together, as VMs see them.

use std::sync::Arc;

use banger_proto::failure::Failure;
use banger_proto::names::{ImageName, KernelName};
use futures::future::BoxFuture;

use crate::image::{ImageStore, Refresh};
use crate::kernel::KernelStore;
use crate::reporter::Reporter;
use crate::vm::boot_source::{Artifacts, BootImage, BootKernel};
use crate::vm::record::BootSource;

/// What a VM boots from when nobody says.
const DEFAULT_IMAGE: &str = "debian-bookworm";

/// Both stores.
pub struct Stores {
    /// Images.
    pub images: ImageStore,
    /// Kernels.
    pub kernels: KernelStore,
}

impl Stores {
    /// Removes builds that a later build replaced and no VM boots from. Trouble is logged: it only costs space.
    pub fn remove_unused_builds(&self, used: &[Arc<BootSource>]) {
        for image in self.images.superseded() {
            if used.iter().all(|boot| boot.rootfs != image.rootfs)
                && let Err(error) = self.images.remove_superseded(&image)
            {
                tracing::warn!(image = %image.name, "an old build stays: {}", Failure::from_error(&error));
            }
        }
        for kernel in self.kernels.superseded() {
            if used.iter().all(|boot| boot.vmlinux != kernel.vmlinux)
                && let Err(error) = self.kernels.remove_superseded(&kernel)
            {
                tracing::warn!(kernel = %kernel.name, "an old build stays: {}", Failure::from_error(&error));
            }
        }
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
            Ok(BootImage {
                name: image.name,
                id: image.id,
                rootfs: image.rootfs,
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
