//! The supported platform: one jailed Firecracker per VM, started by the root helper, talked to by us.
//!
//! Nothing here needs or uses privilege. What does is asked of the helper, which derives every path and name from the
//! VM's id by the rules in its own ledger; what the owner may do (disks, initrd, the VMM's API, the guest) is done here.
//!
//! ```text
//! provision   ../work_disk.rs, root_client.rs (link, root disk)
//! launch      ../initrd.rs, launch.rs, machine.rs, api.rs
//! inspect     observe.rs, handles.rs          by the helper's ledger, then by asking the VMM
//! control     vsock.rs, console.rs
//! reassert    network.rs, fullness.rs
//! ```

mod console;
mod examine;
mod files;
mod fullness;
mod handles;
mod just_made;
mod launch;
mod machine;
mod metrics;
mod network;
mod observe;
mod root_client;
mod vsock;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use banger_proto::failure::Kind;
use banger_proto::guest::v1::{Network, Seed};
use banger_proto::guest_contract::CONTROL_VSOCK_PORT;
use banger_proto::install::{HELPER_SOCKET, HELPER_STATE_DIRECTORY, Install, PROGRAM_DIRECTORY, Subnet};
use banger_proto::names::VmId;
use banger_proto::root::v1::{CreateRootDisk, TeardownVm, request::Operation};
use futures::future::BoxFuture;
use tokio::net::UnixStream;

use self::files::Files;
use self::root_client::{Patience, RootClient};
use super::files::{Made, blocking, remove_directory, subdirectories};
use super::{
    GuestMachine, Notice, Observed, Platform, PlatformError, ProcessIdentity, Running, VmPlan, Wanted, error, process,
    programs, work_disk,
};
use crate::doctor::Finding;
use crate::paths::Paths;
use crate::reporter::Reporter;
use crate::vm::record::VmSpec;

/// See the module.
#[derive(Debug)]
pub struct FirecrackerPlatform {
    paths: Paths,
    subnet: Subnet,
    host_boot_id: String,
    root: RootClient,
    /// The helper's jails.
    jails: PathBuf,
    /// Where firecracker and jailer are.
    programs: PathBuf,
    /// Tests have no banger-guest beside them.
    guest_binary: Option<PathBuf>,
    /// Held for reading while a VM starts, for writing while the network is put right: what a look at the host found
    /// must still be true when it is acted upon.
    changing: tokio::sync::RwLock<()>,
    told: Mutex<fullness::Told>,
    handles: handles::Handles,
    just_made: just_made::JustMade,
}

impl FirecrackerPlatform {
    /// For this installation. The helper is asked when it is first needed, so that a daemon without it still answers
    /// and says what is missing.
    ///
    /// # Errors
    /// If /proc is not there.
    pub fn open(paths: &Paths, install: &Install) -> Result<Self, PlatformError> {
        let host_boot_id = process::host_boot_id()
            .map_err(|source| error::plain(Kind::HostNotReady, "cannot read the host's boot id").because(source))?;
        Ok(Self {
            paths: paths.clone(),
            subnet: install.network.subnet,
            host_boot_id,
            root: RootClient::new(Path::new(HELPER_SOCKET), Patience::default()),
            jails: Path::new(HELPER_STATE_DIRECTORY).join("jail"),
            programs: PROGRAM_DIRECTORY.into(),
            guest_binary: None,
            changing: tokio::sync::RwLock::default(),
            told: Mutex::default(),
            handles: handles::Handles::default(),
            just_made: just_made::JustMade::default(),
        })
    }

    fn files(&self, plan: &VmPlan) -> Files {
        Files::of(plan, &self.jails)
    }

    fn guest_binary(&self) -> Result<PathBuf, PlatformError> {
        match &self.guest_binary {
            Some(path) => Ok(path.clone()),
            None => self.paths.guest_binary().map_err(|source| error::classified("cannot start a VM", source)),
        }
    }

    fn ensure_ours(&self, plan: &VmPlan) -> Result<(), PlatformError> {
        if self.paths.vm(&plan.id) == plan.directory && self.paths.vm_runtime(&plan.id) == plan.runtime_directory {
            return Ok(());
        }
        Err(error::plain(Kind::Internal, format!("the plan of {} names directories that are not its own", plan.name)))
    }

    async fn provision_vm(&self, plan: &VmPlan, reporter: &Reporter) -> Result<(), PlatformError> {
        self.ensure_ours(plan)?;
        let mke2fs = programs::find(work_disk::MKE2FS)?;
        let address = address_of(plan)?;
        let root_disk = root_disk(plan)?;
        let is_new = !plan.directory.exists();
        let mut made = Made::default();
        made.directory(&plan.directory)?;

        let (id, disk) = (reporter.operation_id(), self.files(plan).work_disk);
        let _stable = self.changing.read().await;
        let privileged = async {
            self.root.perform(id, network::attach_link(&plan.id, address)).await?;
            self.root.perform(id, root_disk).await
        };
        // Both to their end: what is still being made could not be undone. The helper first: starting mke2fs blocks.
        let (provisioned, disk) =
            tokio::join!(privileged, work_disk::make_in(&mke2fs, plan, &disk, reporter.cancellation()));
        made.files(disk.iter().flatten().cloned());
        match disk.map(drop).and(provisioned) {
            Ok(()) => {
                made.keep();
                // What an earlier call made may have changed since.
                if is_new {
                    self.just_made.note(&plan.id);
                }
                Ok(())
            }
            // What an earlier call made may hold somebody's work.
            Err(error) if !is_new => Err(error),
            Err(mut error) => {
                let left = self.take_away(id, &plan.id).await;
                error.left_behind.extend(left.iter().map(ToString::to_string));
                Err(error)
            }
        }
    }

    /// What the helper has of this VM. One it does not know is gone already.
    async fn take_away(&self, operation_id: &str, id: &VmId) -> Vec<PlatformError> {
        let asked = self.root.perform(operation_id, Operation::TeardownVm(TeardownVm { vm_id: id.to_string() })).await;
        match asked {
            Err(error) if error.kind != Kind::NotFound => vec![error],
            _ => Vec::new(),
        }
    }

    async fn remove(&self, id: &VmId) -> Vec<PlatformError> {
        self.just_made.take(id);
        let mut errors = self.take_away("teardown", id).await;
        for directory in [self.paths.vm(id), self.paths.vm_runtime(id)] {
            errors.extend(blocking(move || remove_directory(&directory)).await.err());
        }
        errors
    }

    /// Every VM the helper holds something of, and every directory.
    async fn find_all(&self) -> Result<Vec<VmId>, PlatformError> {
        let holdings = self.root.inventory("inventory").await?;
        let mut ids: std::collections::BTreeSet<VmId> =
            holdings.vms.iter().filter_map(|held| held.vm_id.parse().ok()).collect();
        let directories = subdirectories(&self.paths.vms())?;
        ids.extend(directories.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()));
        Ok(ids.into_iter().collect())
    }

    async fn put_right(&self, wanted: Wanted<'_>) -> Result<Vec<Notice>, PlatformError> {
        const WHO: &str = "watch";
        let holdings = self.root.inventory(WHO).await?;
        for vm in holdings.vms.iter().filter(|held| held.pid != 0).filter_map(|held| held.vm_id.parse::<VmId>().ok()) {
            let metrics = self.paths.vm(&vm).join(files::METRICS);
            if let Err(error) = metrics::bound(&metrics) {
                tracing::warn!(%vm, "cannot cut {}: {error}", metrics.display());
            }
        }
        let notices = self.told.lock().unwrap_or_else(PoisonError::into_inner).news(&holdings.vms);
        if network::repairs(&holdings, &wanted()).is_empty() {
            return Ok(notices);
        }
        let _alone = self.changing.write().await;
        let holdings = self.root.inventory(WHO).await?;
        let mut outcome = Ok(());
        for repair in network::repairs(&holdings, &wanted()) {
            tracing::warn!(?repair, "putting the network of the VMs right");
            let repaired = self.root.perform(WHO, repair).await;
            outcome = outcome.and(repaired);
        }
        if let Err(error) = outcome {
            // The error is told again as long as it lasts; notices only now.
            for notice in notices {
                tracing::warn!(vm = %notice.vm, "{}", notice.text);
            }
            return Err(error);
        }
        Ok(notices)
    }
}

/// The guest's address; every VM of this platform has one.
fn address_of(plan: &VmPlan) -> Result<Ipv4Addr, PlatformError> {
    plan.address.ok_or_else(|| error::plain(Kind::Internal, format!("the VM {} has no address", plan.name)))
}

fn root_disk(plan: &VmPlan) -> Result<Operation, PlatformError> {
    let image = files::stored(&plan.rootfs)?;
    let found = std::fs::metadata(&plan.rootfs)
        .map_err(|source| error::on_path("cannot find the image's root filesystem", &plan.rootfs, source))?;
    Ok(Operation::CreateRootDisk(CreateRootDisk {
        vm_id: plan.id.to_string(),
        image_name: image.name,
        image_build: image.build.to_string(),
        copy_on_write_mib: fullness::store_mib(found.len()),
    }))
}

impl Platform for FirecrackerPlatform {
    fn vmm_name(&self) -> &'static str {
        "firecracker"
    }

    fn guest_machine(&self, plan: &VmPlan) -> GuestMachine {
        let gateway = self.subnet.gateway().to_string();
        let network = plan.address.map_or_else(Network::default, |address| Network {
            address: address.to_string(),
            prefix_length: self.subnet.prefix().into(),
            // Also without nat: it answers for the guest's own name, and refuses all others at once.
            nameservers: vec![gateway.clone()],
            gateway,
        });
        GuestMachine { network, disks: machine::DISKS }
    }

    fn address_pool(&self) -> Option<Subnet> {
        Some(self.subnet)
    }

    fn check(&self, spec: &VmSpec) -> Result<(), PlatformError> {
        if !spec.published_ports.is_empty() {
            return Err(error::plain(Kind::Refused, "ports of a VM are not published on 127.0.0.1 in system mode")
                .hint(
                    "Every VM has an address of its own: use `NAME.vm:PORT` from this host, without publishing it.",
                ));
        }
        if spec.vcpu_count > machine::VCPU_MAXIMUM {
            let attempt = format!("Firecracker runs at most {} virtual CPUs", machine::VCPU_MAXIMUM);
            return Err(error::plain(Kind::Usage, attempt)
                .hint(format!("Ask for fewer with `--cpus {}`.", machine::VCPU_MAXIMUM)));
        }
        Ok(())
    }

    fn provision<'a>(&'a self, plan: &'a VmPlan, reporter: &'a Reporter) -> BoxFuture<'a, Result<(), PlatformError>> {
        Box::pin(self.provision_vm(plan, reporter))
    }

    fn launch<'a>(
        &'a self,
        plan: &'a VmPlan,
        seed: &'a Seed,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<Running, PlatformError>> {
        Box::pin(self.start(plan, seed, reporter))
    }

    fn inspect<'a>(
        &'a self,
        plan: &'a VmPlan,
        _: Option<&'a ProcessIdentity>,
    ) -> BoxFuture<'a, Result<Observed, PlatformError>> {
        Box::pin(self.observe(plan))
    }

    fn connect_control<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Result<UnixStream, PlatformError>> {
        let files = self.files(plan);
        Box::pin(async move {
            Ok(vsock::connect_when_listening(&files.vsock_socket, CONTROL_VSOCK_PORT, &files.console).await)
        })
    }

    fn wait_gone<'a>(&'a self, process: &'a ProcessIdentity) -> BoxFuture<'a, ()> {
        Box::pin(self.until_gone(process))
    }

    fn kill<'a>(
        &'a self,
        plan: &'a VmPlan,
        process: Option<&'a ProcessIdentity>,
    ) -> BoxFuture<'a, Result<(), PlatformError>> {
        const WHO: &str = "kill";
        Box::pin(async move {
            match process.filter(|process| self.handles.knows(process)) {
                Some(process) => self.kill_vmm(WHO, &plan.id, process).await,
                None => self.end_vmm(WHO, &plan.id).await,
            }
        })
    }

    fn set_nat<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Result<(), PlatformError>> {
        Box::pin(async move {
            let _stable = self.changing.read().await;
            self.root.perform("set-nat", network::set_nat(&plan.id, plan.nat)).await
        })
    }

    fn reassert<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Vec<Notice>, PlatformError>> {
        Box::pin(self.put_right(wanted))
    }

    fn examine(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(self.examine_host())
    }

    fn teardown<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Vec<PlatformError>> {
        Box::pin(async move {
            match self.ensure_ours(plan) {
                Ok(()) => self.remove(&plan.id).await,
                Err(error) => vec![error],
            }
        })
    }

    fn inventory(&self) -> BoxFuture<'_, Result<Vec<VmId>, PlatformError>> {
        Box::pin(self.find_all())
    }

    fn remove_orphan<'a>(&'a self, id: &'a VmId) -> BoxFuture<'a, Vec<PlatformError>> {
        Box::pin(self.remove(id))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
