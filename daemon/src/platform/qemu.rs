//! The rootless platform: one QEMU process per VM, run as the user, with a user-mode network.
//!
//! Everything is below two roots, `vms/<id>/` and `vm/<short id>/`, and everything a VMM may reach is in
//! its [`arguments`]. A VMM is started detached, outlives bangerd, and is found again by its identity or by
//! its arguments ([`super::process`]). Nothing here needs or uses privilege, and nothing here decides when.
//!
//! ```text
//! provision   disks.rs, ../work_disk.rs       directories, qcow2 overlay, sparse ext4
//! launch      ../initrd.rs, launch.rs, arguments.rs
//! inspect     ../process.rs, launch.rs (adopt), qmp.rs, usernet.rs
//! teardown    remains.rs, ../files.rs         also finds what nobody knows any more
//! ```

mod accel;
mod arguments;
mod disks;
mod examine;
mod kernel_command_line;
mod launch;
mod qmp;
mod remains;
mod tools;
mod usernet;

use std::path::PathBuf;

use banger_proto::failure::Kind;
use banger_proto::guest::v1::{Network, Seed};
use banger_proto::guest_contract::{MODULES_DISK_SERIAL, ROOT_DISK_SERIAL, WORK_DISK_SERIAL};
use banger_proto::install::Subnet;
use banger_proto::names::VmId;
use futures::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

pub use accel::{Accel, AccelError};

use self::arguments::Files;
use super::files::{blocking, remove_directory};
use super::{
    GuestDisks, GuestMachine, Notice, Observed, Platform, PlatformError, ProcessIdentity, Running, VmPlan, Wanted,
    error, initrd, process,
};
use crate::doctor::Finding;
use crate::paths::Paths;
use crate::reporter::Reporter;
use crate::vm::record::VmSpec;

/// See the module.
#[derive(Debug)]
pub struct QemuPlatform {
    paths: Paths,
    accel: Accel,
    host_boot_id: String,
    qemu: OnceCell<tools::Qemu>,
    /// Tests have no banger-guest beside them.
    guest_binary: Option<PathBuf>,
}

impl QemuPlatform {
    /// Decides on the accelerator. QEMU itself is looked for when it is first needed, so that a daemon
    /// without it still answers and says what is missing.
    ///
    /// # Errors
    /// If `BANGER_ACCEL` asks for something that cannot be had, or /proc is not there.
    pub fn open(paths: &Paths) -> Result<Self, PlatformError> {
        let requested = std::env::var("BANGER_ACCEL").ok();
        let accel = accel::decide(requested.as_deref(), accel::Observation::of_host())
            .map_err(|source| error::classified("cannot choose an accelerator", source))?;
        let host_boot_id = process::host_boot_id()
            .map_err(|source| error::plain(Kind::HostNotReady, "cannot read the host's boot id").because(source))?;
        Ok(Self { paths: paths.clone(), accel, host_boot_id, qemu: OnceCell::new(), guest_binary: None })
    }

    async fn qemu(&self) -> Result<&tools::Qemu, PlatformError> {
        self.qemu.get_or_try_init(tools::probe_qemu).await
    }

    fn guest_binary(&self) -> Result<PathBuf, PlatformError> {
        match &self.guest_binary {
            Some(path) => Ok(path.clone()),
            None => self.paths.guest_binary().map_err(|source| error::classified("cannot start a VM", source)),
        }
    }

    /// Every later removal is of exactly these two directories, so a plan that names others is a bug.
    fn ensure_ours(&self, plan: &VmPlan) -> Result<(), PlatformError> {
        let ours =
            self.paths.vm(&plan.id) == plan.directory && self.paths.vm_runtime(&plan.id) == plan.runtime_directory;
        if ours {
            return Ok(());
        }
        let (directory, runtime) = (plan.directory.display(), plan.runtime_directory.display());
        let attempt =
            format!("the plan of {} names directories that are not its own: {directory}, {runtime}", plan.name);
        Err(error::plain(Kind::Internal, attempt))
    }

    fn find_unrecorded(&self, id: &VmId) -> Result<Vec<ProcessIdentity>, PlatformError> {
        remains::processes_of(id, &self.paths.vm_runtime(id), &self.host_boot_id)
    }

    async fn provision_vm(&self, plan: &VmPlan, reporter: &Reporter) -> Result<(), PlatformError> {
        self.ensure_ours(plan)?;
        self.qemu().await?;
        disks::provision(plan, reporter.cancellation()).await
    }

    async fn start(&self, plan: &VmPlan, seed: &Seed, reporter: &Reporter) -> Result<Running, PlatformError> {
        self.ensure_ours(plan)?;
        let qemu = self.qemu().await?;
        if let Some(process) = self.find_unrecorded(&plan.id)?.first() {
            let attempt = format!("cannot start {}, its VMM runs already with pid {}", plan.name, process.pid);
            return Err(error::plain(Kind::Conflict, attempt));
        }
        disks::ensure_runtime_directory(plan)?;
        let files = Files::of(plan);
        self.write_initrd(plan, seed, &files).await?;
        let launcher = launch::Launcher { qemu, accel: self.accel, host_boot_id: &self.host_boot_id };
        let launched = launcher.launch(plan, reporter.cancellation()).await;
        // QEMU maps the file while it starts and restarts the guest from that mapping.
        match (launched, initrd::remove(&files.initrd)) {
            (Ok(running), Ok(())) => Ok(running),
            (Ok(running), Err(error)) => {
                launch::end_process(&running.process, &self.host_boot_id).await?;
                Err(error)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn write_initrd(&self, plan: &VmPlan, seed: &Seed, files: &Files) -> Result<(), PlatformError> {
        let (guest_binary, modules_cpio) = (self.guest_binary()?, plan.modules_cpio.clone());
        let (destination, seed) = (files.initrd.clone(), seed.clone());
        blocking(move || {
            let parts = initrd::Parts { guest_binary: &guest_binary, modules_cpio: &modules_cpio, seed: &seed };
            initrd::write(&destination, &parts)
        })
        .await
    }

    async fn observe(&self, plan: &VmPlan, recorded: Option<&ProcessIdentity>) -> Result<Observed, PlatformError> {
        let known = recorded.filter(|process| process::is_alive(process, &self.host_boot_id)).cloned();
        let process = match known {
            Some(process) => Some(process),
            None => self.find_unrecorded(&plan.id)?.into_iter().next(),
        };
        let Some(process) = process else { return Ok(Observed::Gone) };
        let adopted = launch::adopt(plan, process, &self.host_boot_id).await?;
        Ok(adopted.map_or(Observed::Gone, Observed::Running))
    }

    /// The recorded process and any other of this VM, each once.
    async fn end_processes(&self, id: &VmId, recorded: Option<&ProcessIdentity>) -> Result<(), PlatformError> {
        let mut targets = self.find_unrecorded(id)?;
        targets.extend(recorded.filter(|process| !targets.contains(process)).cloned());
        let mut first = Ok(());
        for process in &targets {
            first = first.and(launch::end_process(process, &self.host_boot_id).await);
        }
        first
    }

    async fn remove(&self, id: &VmId) -> Vec<PlatformError> {
        let mut errors: Vec<PlatformError> = self.end_processes(id, None).await.err().into_iter().collect();
        for directory in [self.paths.vm(id), self.paths.vm_runtime(id)] {
            errors.extend(blocking(move || remove_directory(&directory)).await.err());
        }
        errors
    }
}

impl Platform for QemuPlatform {
    fn vmm_name(&self) -> &'static str {
        self.accel.vmm_name()
    }

    fn guest_machine(&self, plan: &VmPlan) -> GuestMachine {
        let network = Network {
            address: arguments::GUEST_ADDRESS.to_string(),
            prefix_length: arguments::PREFIX_LENGTH,
            gateway: arguments::GATEWAY.to_string(),
            // Without nat QEMU's resolver does not answer; no resolver fails at once, a deaf one after a timeout.
            nameservers: plan.nat.then(|| arguments::NAMESERVER.to_string()).into_iter().collect(),
        };
        let disks = GuestDisks { root: ROOT_DISK_SERIAL, work: WORK_DISK_SERIAL, modules: MODULES_DISK_SERIAL };
        GuestMachine { network, disks }
    }

    fn address_pool(&self) -> Option<Subnet> {
        None
    }

    fn check(&self, _: &VmSpec) -> Result<(), PlatformError> {
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
        recorded: Option<&'a ProcessIdentity>,
    ) -> BoxFuture<'a, Result<Observed, PlatformError>> {
        Box::pin(self.observe(plan, recorded))
    }

    fn connect_control<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Result<UnixStream, PlatformError>> {
        let socket = Files::of(plan).control_socket;
        Box::pin(async move {
            UnixStream::connect(&socket)
                .await
                .map_err(|source| error::on_path("cannot connect to the control channel at", &socket, source))
        })
    }

    fn wait_gone<'a>(&'a self, process: &'a ProcessIdentity) -> BoxFuture<'a, ()> {
        Box::pin(process::wait_gone(process, &self.host_boot_id))
    }

    fn kill<'a>(
        &'a self,
        plan: &'a VmPlan,
        recorded: Option<&'a ProcessIdentity>,
    ) -> BoxFuture<'a, Result<(), PlatformError>> {
        Box::pin(self.end_processes(&plan.id, recorded))
    }

    /// QEMU's user network is open or closed from its start to its end.
    fn set_nat<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Result<(), PlatformError>> {
        let name = &plan.name;
        let refused = error::plain(Kind::Conflict, format!("cannot switch the NAT of {name} while it runs on QEMU"))
            .hint(format!("Stop it first with `banger vm stop {name}`, and start it again afterwards."));
        Box::pin(std::future::ready(Err(refused)))
    }

    /// All of a VM's network is inside its VMM.
    fn reassert<'a>(&'a self, _: Wanted<'a>) -> BoxFuture<'a, Result<Vec<Notice>, PlatformError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn examine(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(examine::host())
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
        Box::pin(async { remains::inventory(&self.paths, &self.host_boot_id) })
    }

    fn remove_orphan<'a>(&'a self, id: &'a VmId) -> BoxFuture<'a, Vec<PlatformError>> {
        Box::pin(self.remove(id))
    }
}

#[cfg(test)]
mod tests;
