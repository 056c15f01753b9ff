//! A daemon's roots with an image, a kernel and a guest binary in them; ends every VMM it may have started.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use banger_proto::guest::v1::Seed;
use tokio_util::sync::CancellationToken;

use super::super::{QemuPlatform, launch, remains, tools};
use crate::paths::Paths;
use crate::platform::{Observed, Platform as _, PlatformError, Running, VmPlan, process, programs, work_disk};
use crate::reporter::Reporter;

/// See the module.
pub struct Fixture {
    pub paths: Paths,
    pub platform: QemuPlatform,
    pub reporter: Reporter,
    root: PathBuf,
    /// None where another process owns the directory.
    scratch: Option<tempfile::TempDir>,
}

/// Says why and returns true where QEMU is not installed.
pub fn skipped() -> bool {
    let missing =
        [tools::QEMU, tools::QEMU_IMG, work_disk::MKE2FS].into_iter().find(|tool| programs::find(*tool).is_err());
    if let Some(tool) = missing {
        writeln!(std::io::stderr(), "skipped: {} is not installed. {}", tool.name, tool.install_hint()).unwrap();
    }
    missing.is_some()
}

impl Fixture {
    pub fn new() -> Self {
        // Short: a socket's path has 107 bytes.
        let scratch = tempfile::Builder::new().prefix("bq").tempdir_in("/tmp").unwrap();
        for (name, content) in [
            ("guest", b"not executed by these kernels".to_vec()),
            ("modules.cpio", b"not unpacked either".to_vec()),
            ("rootfs.ext4", vec![0; 1 << 20]),
            ("modules.ext4", vec![0; 1 << 20]),
            ("vmlinux", super::tiny_kernel::that_halts()),
        ] {
            std::fs::write(scratch.path().join(name), content).unwrap();
        }
        let mut fixture = Self::at(scratch.path());
        fixture.paths.ensure().unwrap();
        fixture.scratch = Some(scratch);
        fixture
    }

    /// The same roots seen by another daemon.
    pub fn at(root: &Path) -> Self {
        let paths =
            Paths { runtime: root.join("r"), state: root.join("s"), cache: root.join("c"), config: root.join("g") };
        let mut platform = QemuPlatform::open(&paths).unwrap();
        platform.guest_binary = Some(root.join("guest"));
        Self { paths, platform, reporter: Reporter::silent("test"), root: root.to_owned(), scratch: None }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The `number`th VM.
    pub fn plan(&self, number: u32) -> VmPlan {
        let id = format!("{number:08x}{:024x}", 7).parse().unwrap();
        VmPlan {
            name: format!("box-{number}").parse().unwrap(),
            vcpu_count: 1,
            memory_mib: 64,
            work_disk_mib: 256,
            nat: false,
            address: None,
            published_ports: Vec::new(),
            rootfs: self.root.join("rootfs.ext4"),
            image_has_sshd: true,
            vmlinux: self.root.join("vmlinux"),
            modules_cpio: self.root.join("modules.cpio"),
            modules_ext4: self.root.join("modules.ext4"),
            kernel_arguments: Vec::new(),
            directory: self.paths.vm(&id),
            runtime_directory: self.paths.vm_runtime(&id),
            id,
        }
    }

    pub fn use_kernel(&self, kernel: &[u8]) {
        std::fs::write(self.root.join("vmlinux"), kernel).unwrap();
    }

    pub async fn launch(&self, plan: &VmPlan) -> Result<Running, PlatformError> {
        self.platform.launch(plan, &Seed::default(), &self.reporter).await
    }

    /// Provisioned and launched.
    pub async fn started(&self, plan: &VmPlan) -> Running {
        self.platform.provision(plan, &self.reporter).await.unwrap();
        self.launch(plan).await.unwrap()
    }

    pub async fn observed(&self, plan: &VmPlan) -> Observed {
        self.platform.inspect(plan, None).await.unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if self.scratch.is_none() {
            return;
        }
        let boot = process::host_boot_id().unwrap();
        let ids = remains::inventory(&self.paths, &boot).unwrap_or_default();
        for id in ids {
            for found in remains::processes_of(&id, &self.paths.vm_runtime(&id), &boot).unwrap_or_default() {
                if let Ok(Some(pidfd)) = process::open(&found, &boot) {
                    let _ = process::kill(&pidfd);
                }
            }
        }
    }
}

/// A reporter whose operation was cancelled before it began.
pub fn cancelled() -> Reporter {
    let cancel = CancellationToken::new();
    cancel.cancel();
    Reporter::new("test".into(), tokio::sync::mpsc::unbounded_channel().0, cancel)
}

/// Waits, bounded, until `holds`.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The message and its cause, as a user would see them.
pub fn told(error: &PlatformError) -> String {
    use std::error::Error as _;
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// So that a test can say which process it means.
pub async fn end(running: &Running) {
    launch::end_process(&running.process, &process::host_boot_id().unwrap()).await.unwrap();
}
