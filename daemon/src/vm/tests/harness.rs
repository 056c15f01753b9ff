//! A daemon's core on a fake host: made, dropped and made again on the same files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use banger_proto::failure::Failure;
use banger_proto::names::{ImageName, KernelName, VmId};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::paths::Paths;
use crate::platform::fake::{FakePlatform, World};
use crate::reporter::Reporter;
use crate::store::Store;
use crate::vm::Vms;
use crate::vm::boot_source::{Artifacts, BootImage, BootKernel};
use crate::vm::create::{CreateRequest, StartOptions};
use crate::vm::driver::Snapshot;
use crate::vm::host::{Host, Patience};
use crate::vm::record::{OwnerMaterial, PublishedPort, VmSpec};
use crate::vm::wait::Goal;

/// Long enough for a loaded machine, never reached when all is well.
pub const LONG: Duration = Duration::from_secs(20);

/// Everything that outlives a daemon.
pub struct Site {
    scratch: tempfile::TempDir,
    pub world: Arc<World>,
    pub patience: Patience,
}

impl Site {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["state", "run", "cache"] {
            std::fs::create_dir(scratch.path().join(name)).unwrap();
        }
        for name in ["rootfs", "vmlinux", "modules.cpio", "modules.ext4"] {
            std::fs::write(scratch.path().join(name), name).unwrap();
        }
        Self { scratch, world: Arc::default(), patience: Patience { stage: LONG, stop: LONG, answer: LONG } }
    }

    /// Guests get only this long for everything.
    pub fn impatient(mut self, patience: Duration) -> Self {
        self.patience = Patience { stage: patience, stop: patience, answer: patience };
        self
    }

    pub fn paths(&self) -> Paths {
        let root = self.scratch.path();
        Paths {
            runtime: root.join("run"),
            state: root.join("state"),
            cache: root.join("cache"),
            config: root.join("config"),
        }
    }

    /// A daemon starts.
    pub async fn daemon(&self) -> Vms {
        let (vms, origin) = self.unreconciled();
        vms.reconcile(origin).await.unwrap();
        vms
    }

    pub fn unreconciled(&self) -> (Vms, crate::store::Origin) {
        let (store, origin) = Store::open(self.paths().database()).unwrap();
        let host = Host {
            mode: crate::mode::Mode::Rootless,
            names_problem: None,
            platform: Arc::new(FakePlatform::new(Arc::clone(&self.world))),
            store,
            paths: self.paths(),
            artifacts: Arc::new(FakeArtifacts { root: self.scratch.path().to_owned() }),
            patience: self.patience,
            closing: CancellationToken::new(),
        };
        (Vms::new(Arc::new(host)), origin)
    }

    /// Nothing of any VM is left anywhere.
    pub async fn assert_nothing_left(&self, vms: &Vms) {
        assert_eq!(names(vms), Vec::<String>::new());
        assert_eq!(vms.host().store.vms().await.unwrap(), Vec::new());
        assert_eq!(vms.host().store.intents().await.unwrap(), Vec::new());
        assert!(self.world.directories().is_empty() && self.world.processes().is_empty(), "{:?}", self.world);
        assert!(!self.paths().state.join("vms").exists() || is_empty(&self.paths().state.join("vms")));
    }

    /// Store and host tell the same story.
    pub async fn assert_consistent(&self, vms: &Vms) {
        let rows = vms.host().store.vms().await.unwrap();
        let ids: std::collections::BTreeSet<VmId> = rows.iter().map(|row| row.id.clone()).collect();
        assert_eq!(self.world.directories(), ids, "every VM has files and every file a VM");
        let processes = self.world.processes();
        for row in &rows {
            let recorded = row.runtime.as_ref().map(|runtime| &runtime.process);
            assert_eq!(recorded, processes.get(&row.id), "{:?} knows its process", row.name);
        }
        assert!(processes.keys().all(|id| ids.contains(id)), "no process without a VM");
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

/// Files that are there at once.
struct FakeArtifacts {
    root: std::path::PathBuf,
}

impl Artifacts for FakeArtifacts {
    fn image<'a>(
        &'a self,
        name: Option<&'a ImageName>,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<BootImage, Failure>> {
        Box::pin(async move {
            reporter.stage("image", "image");
            let name = name.cloned().unwrap_or_else(|| "default".parse().unwrap());
            if name.as_str() == "endless" {
                std::future::pending::<()>().await;
            }
            Ok(BootImage {
                id: "ab".repeat(32).parse().unwrap(),
                rootfs: self.root.join("rootfs"),
                rootfs_stamp: None,
                init_path: Some("/sbin/init".into()),
                has_sshd: name.as_str() == "with-sshd",
                name,
                kernel: "generic".parse().unwrap(),
                environment: vec!["A=b".into()],
                working_directory: "/".into(),
                user: "root".into(),
            })
        })
    }

    fn kernel<'a>(&'a self, name: &'a KernelName, _: &'a Reporter) -> BoxFuture<'a, Result<BootKernel, Failure>> {
        Box::pin(async move {
            Ok(BootKernel {
                name: name.clone(),
                vmlinux: self.root.join("vmlinux"),
                modules_cpio: self.root.join("modules.cpio"),
                modules_ext4: self.root.join("modules.ext4"),
            })
        })
    }
}

/// A request for a small VM that is started and waited for until it has booted.
pub fn request(name: &str) -> CreateRequest {
    CreateRequest {
        name: Some(name.parse().unwrap()),
        image: None,
        kernel: None,
        spec: VmSpec {
            vcpu_count: 1,
            memory_mib: 256,
            work_disk_mib: 64,
            nat: false,
            published_ports: vec![PublishedPort { host: 8080, guest: 80 }],
        },
        owner: OwnerMaterial { authorized_keys: vec!["ssh-ed25519 AAAA me".into()], ..OwnerMaterial::default() },
        kernel_arguments: Vec::new(),
        start: Some(booted()),
    }
}

pub fn booted() -> StartOptions {
    StartOptions { goal: Goal::Booted, patience: None }
}

pub fn reachable() -> StartOptions {
    StartOptions { goal: Goal::Reachable, patience: None }
}

pub fn quiet() -> Reporter {
    Reporter::silent("op-test")
}

/// A reporter whose token the test holds.
pub fn cancellable() -> (Reporter, CancellationToken) {
    let cancel = CancellationToken::new();
    let (events, _) = mpsc::unbounded_channel();
    (Reporter::new("op-test".into(), events, cancel.clone()), cancel)
}

/// A reporter and everything it is told.
pub fn recorded() -> (Reporter, mpsc::UnboundedReceiver<banger_proto::v1::OperationEvent>) {
    let (events, received) = mpsc::unbounded_channel();
    (Reporter::new("op-test".into(), events, CancellationToken::new()), received)
}

pub fn names(vms: &Vms) -> Vec<String> {
    vms.list().iter().map(|snapshot| snapshot.record.name.to_string()).collect()
}

pub fn snapshot(vms: &Vms, name: &str) -> Snapshot {
    vms.find(name).unwrap().snapshot()
}

pub fn id(vms: &Vms, name: &str) -> VmId {
    snapshot(vms, name).record.id.clone()
}

/// Waits, within reason, until the VM satisfies `there`.
pub async fn until(vms: &Vms, name: &str, there: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let mut watch = vms.find(name).unwrap().watch();
    let waited = tokio::time::timeout(LONG, watch.wait_for(|snapshot| there(snapshot))).await;
    let reached = waited.is_ok_and(|outcome| outcome.is_ok());
    assert!(reached, "{name} is stuck in {:?}", snapshot(vms, name));
    snapshot(vms, name)
}
