//! Starts a VMM and its guest.
//!
//! The helper starts the VMM, which finds its orders in a file, and says when that has started its guest; one that does not
//! is ended by it. What a crash of bangerd left is found by [`observe`](super::observe).

use std::net::{Ipv4Addr, SocketAddr};

use banger_proto::failure::Kind;
use banger_proto::guest::v1::Seed;
use banger_proto::guest_contract::{AGENT_SSH_PORT, IMAGE_SSH_PORT};
use banger_proto::root::v1::{LaunchVm, request::Operation};

use super::files::{self, Files};
use super::root_client::Answer;
use super::{FirecrackerPlatform, address_of, machine, metrics, network};
use crate::platform::files::blocking;
use crate::platform::{PlatformError, ProcessIdentity, Running, VmPlan, error, initrd};
use crate::reporter::Reporter;
use crate::vm::observe::console_tail;

/// What a VMM that ended early is quoted with.
const LAST_LINES: usize = 5;

impl FirecrackerPlatform {
    pub(super) async fn start(
        &self,
        plan: &VmPlan,
        seed: &Seed,
        reporter: &Reporter,
    ) -> Result<Running, PlatformError> {
        self.ensure_ours(plan)?;
        let (id, address) = (reporter.operation_id(), address_of(plan)?);
        let files = self.files(plan);
        let _stable = self.changing.read().await;
        // Side by side: the helper looks at the host while we write.
        let (readied, written) =
            tokio::join!(self.make_ready(plan, id, address), self.write_orders(plan, (seed, address), &files));
        if let Err(error) = readied.and(written) {
            // The first error stays; a file that cannot be removed is replaced by the next launch.
            let _ = initrd::remove(&files.initrd);
            return Err(error);
        }
        keep_previous(&files)?;
        metrics::make(&files.metrics).map_err(|source| error::on_path("cannot make", &files.metrics, source))?;
        let started = self.start_vmm(plan, &files, reporter).await;
        // It has been read by now, and holds the guest's private key.
        match (started, initrd::remove(&files.initrd)) {
            (Ok(process), Ok(())) => Ok(running(plan, address, process)),
            (Ok(_), Err(error)) => {
                self.end_vmm(id, &plan.id).await?;
                Err(error)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// No VMM of its own runs, and its link is as a start needs it.
    async fn make_ready(&self, plan: &VmPlan, operation_id: &str, address: Ipv4Addr) -> Result<(), PlatformError> {
        if self.just_made.take(&plan.id) {
            // A new link has no way to the outside.
            if plan.nat {
                self.root.perform(operation_id, network::set_nat(&plan.id, true)).await?;
            }
            return Ok(());
        }
        let holdings = self.root.inventory(operation_id).await?;
        if let Some(process) = self.listed(&holdings, &plan.id) {
            let attempt = format!("cannot start {}, its VMM runs already with pid {}", plan.name, process.pid);
            return Err(error::plain(Kind::Conflict, attempt));
        }
        // A reboot of the host took the link away, and the settings may have changed since.
        for request in network::before_launch(&holdings, plan, address) {
            self.root.perform(operation_id, request).await?;
        }
        Ok(())
    }

    /// What the VMM reads when it starts.
    async fn write_orders(
        &self,
        plan: &VmPlan,
        (seed, address): (&Seed, Ipv4Addr),
        files: &Files,
    ) -> Result<(), PlatformError> {
        let (config, told) = (files.config.clone(), machine::config(plan, address).to_string());
        let (guest_binary, modules_cpio) = (self.guest_binary()?, plan.modules_cpio.clone());
        let (destination, seed) = (files.initrd.clone(), seed.clone());
        blocking(move || {
            let parts = initrd::Parts { guest_binary: &guest_binary, modules_cpio: &modules_cpio, seed: &seed };
            initrd::write(&destination, &parts)?;
            std::fs::write(&config, told).map_err(|source| error::on_path("cannot write", &config, source))
        })
        .await
    }

    async fn start_vmm(
        &self,
        plan: &VmPlan,
        files: &Files,
        reporter: &Reporter,
    ) -> Result<ProcessIdentity, PlatformError> {
        let launched = self.launch_vmm(plan, reporter.operation_id()).await;
        let process = launched.map_err(|error| with_last_words(error, plan, files))?;
        if !reporter.cancellation().is_cancelled() {
            return Ok(process);
        }
        let mut failure = error::plain(Kind::Cancelled, format!("starting {} was cancelled", plan.name));
        if let Err(kill) = self.end_vmm(reporter.operation_id(), &plan.id).await {
            failure.left_behind.push(kill.to_string());
        }
        Err(failure)
    }

    pub(super) async fn launch_vmm(&self, plan: &VmPlan, operation_id: &str) -> Result<ProcessIdentity, PlatformError> {
        let kernel = files::stored(&plan.vmlinux)?;
        let launch = Operation::LaunchVm(LaunchVm {
            vm_id: plan.id.to_string(),
            kernel_name: kernel.name,
            kernel_build: kernel.build.to_string(),
            vcpu_count: plan.vcpu_count,
            memory_mib: plan.memory_mib,
        });
        match self.root.ask(operation_id, launch).await? {
            Answer::Launched { launched, pidfd: Some(pidfd) } => {
                let process = ProcessIdentity {
                    pid: launched.pid,
                    start_time_ticks: launched.start_time_ticks,
                    host_boot_id: self.host_boot_id.clone(),
                };
                self.handles.keep(&process, pidfd);
                Ok(process)
            }
            Answer::Launched { pidfd: None, .. } | Answer::Done | Answer::Holdings(_) => {
                Err(error::plain(Kind::Internal, format!("the root helper does not say how it launched {}", plan.name)))
            }
        }
    }
}

/// The facts about a running VMM.
pub(super) fn running(plan: &VmPlan, address: Ipv4Addr, process: ProcessIdentity) -> Running {
    let at = |port| SocketAddr::from((address, port));
    Running { process, agent_address: at(AGENT_SSH_PORT), ssh_address: plan.image_has_sshd.then(|| at(IMAGE_SSH_PORT)) }
}

/// The log of a failed start may be the only trace of it, so one earlier console is kept.
fn keep_previous(files: &Files) -> Result<(), PlatformError> {
    match std::fs::rename(&files.console, &files.previous_console) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(error::on_path("cannot rename", &files.console, source))
        }
        _ => Ok(()),
    }
}

/// Why a VMM ended or waits, it says in the console log.
fn with_last_words(error: PlatformError, plan: &VmPlan, files: &Files) -> PlatformError {
    let said = console_tail(&files.console, LAST_LINES).join("; ");
    if said.is_empty() {
        return error;
    }
    error.hint(format!("The last it said was \"{said}\"; read all of it with `banger vm logs {}`.", plan.name))
}
