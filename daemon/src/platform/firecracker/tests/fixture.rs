//! A daemon's roots with an image, a kernel and a guest binary in them, a helper and VMMs.

use std::path::Path;
use std::time::Duration;

use banger_proto::guest::v1::Seed;

use super::super::root_client::{Patience, RootClient};
use super::super::{Files, FirecrackerPlatform};
use super::root_client::FakeHelper;
use crate::paths::Paths;
use crate::platform::{Platform as _, PlatformError, Running, VmPlan, process};
use crate::reporter::Reporter;

pub const BUILD: &str = "01a20d60bf9875dcb3d4f0abd3eb6fdd";

pub struct Fixture {
    pub platform: FirecrackerPlatform,
    pub helper: FakeHelper,
    pub reporter: Reporter,
    scratch: tempfile::TempDir,
}

/// The `number`th VM, of no fixture.
pub fn plan(number: u32) -> VmPlan {
    plan_at(number, Path::new("/nowhere"))
}

fn plan_at(number: u32, root: &Path) -> VmPlan {
    let id = format!("{number:08x}{:024x}", 7).parse().unwrap();
    let paths = paths_at(root);
    let kernel = root.join(format!("s/kernels/generic-6.12@{BUILD}"));
    VmPlan {
        name: format!("box-{number}").parse().unwrap(),
        vcpu_count: 1,
        memory_mib: 256,
        work_disk_mib: 64,
        nat: false,
        address: Some([172, 16, 0, 1 + u8::try_from(number).unwrap()].into()),
        published_ports: Vec::new(),
        rootfs: root.join(format!("s/images/debian@{BUILD}/rootfs.ext4")),
        image_has_sshd: true,
        vmlinux: kernel.join("vmlinux"),
        modules_cpio: kernel.join("modules.cpio"),
        modules_ext4: kernel.join("modules.ext4"),
        kernel_arguments: Vec::new(),
        directory: paths.vm(&id),
        runtime_directory: paths.vm_runtime(&id),
        id,
    }
}

fn paths_at(root: &Path) -> Paths {
    Paths { runtime: root.join("r"), state: root.join("s"), cache: root.join("c"), config: root.join("g") }
}

impl Fixture {
    pub fn new() -> Self {
        // Short: a socket's path has 107 bytes.
        let scratch = tempfile::Builder::new().prefix("bf").tempdir_in("/tmp").unwrap();
        let root = scratch.path();
        let plan = plan_at(1, root);
        paths_at(root).ensure().unwrap();
        for file in [&plan.rootfs, &plan.vmlinux, &plan.modules_cpio, &plan.modules_ext4, &root.join("guest")] {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, vec![0; 1 << 20]).unwrap();
        }
        let helper = FakeHelper::serve(&root.join("helper.sock"));
        let platform = platform_at(root);
        Self { platform, helper, reporter: Reporter::silent("op-test"), scratch }
    }

    pub fn root(&self) -> &Path {
        self.scratch.path()
    }

    pub fn plan(&self, number: u32) -> VmPlan {
        plan_at(number, self.root())
    }

    /// The next daemon's.
    pub fn another_platform(&self) -> FirecrackerPlatform {
        platform_at(self.root())
    }

    pub fn files(&self, plan: &VmPlan) -> Files {
        self.platform.files(plan)
    }

    pub async fn launch(&self, plan: &VmPlan) -> Result<Running, PlatformError> {
        self.platform.launch(plan, &Seed::default(), &self.reporter).await
    }

    /// Provisioned and launched.
    pub async fn started(&self, plan: &VmPlan) -> Running {
        self.platform.provision(plan, &self.reporter).await.unwrap();
        self.launch(plan).await.unwrap()
    }
}

fn platform_at(root: &Path) -> FirecrackerPlatform {
    FirecrackerPlatform {
        paths: paths_at(root),
        subnet: "172.16.0.0/24".parse().unwrap(),
        host_boot_id: process::host_boot_id().unwrap(),
        root: RootClient::new(&root.join("helper.sock"), impatient()),
        jails: root.join("j"),
        programs: root.join("programs"),
        guest_binary: Some(root.join("guest")),
        changing: tokio::sync::RwLock::default(),
        told: std::sync::Mutex::default(),
        handles: Default::default(),
        just_made: Default::default(),
    }
}

/// Nothing here takes long when all is well.
pub fn impatient() -> Patience {
    Patience { long: Duration::from_secs(20), short: Duration::from_secs(20), absence: Duration::from_millis(300) }
}

/// Says why and returns true where mke2fs is not installed.
pub fn skipped() -> bool {
    let missing = crate::platform::programs::find(crate::platform::work_disk::MKE2FS).is_err();
    if missing {
        std::io::Write::write_all(&mut std::io::stderr(), b"skipped: mke2fs is not installed\n").unwrap();
    }
    missing
}
