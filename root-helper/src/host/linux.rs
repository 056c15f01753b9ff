//! The host itself: each call handed to the file that knows how.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use banger_proto::install::{Install, tap};
use banger_proto::names::{BuildId, ImageName, VmId};
use serde_json::Value;

use super::links::{self, Prefixed};
use super::nft_generation::{self, Seen, Source};
use super::{Host, Limits, Usage, forwarding, nft, process, resolver, root_disk, rules, unit};
use crate::error::{Step, StepError, step};
use crate::ledger::{FileIdentity, Process, RootDisk};
use crate::request::{Signal, Switch};
use crate::run_vm::failure;
use crate::{kernel_names, syscalls};

/// How the machine monitor calls the threads of virtual CPUs, which it makes last of all, when it has read everything
/// (docs/prod-host-setup.md of Firecracker).
const VCPU_THREAD: &str = "fc_vcpu";
/// Where it listens that was given no orders, seen from outside its jail.
const API_SOCKET: &str = "root/run/firecracker.socket";
/// From the start of the unit to its guest or to the socket. The jailer copies the machine monitor in between, and that reads
/// kernel and initrd: seconds on an emulated host. Less than whoever asked has patience for.
const START_LIMIT: Duration = Duration::from_secs(45);
/// Between two looks.
const START_STEP: Duration = Duration::from_millis(3);

/// From the end of a unit's only process to the end of the unit, at the most; and between two looks for it.
const UNIT_LIMIT: Duration = Duration::from_secs(1);
const UNIT_STEP: Duration = Duration::from_millis(2);

/// The host, for one installation.
#[derive(Debug)]
pub struct Linux {
    install: Install,
    boot_id: String,
    seen: Seen,
}

impl Linux {
    /// Reads which boot this is.
    pub fn observe(install: Install) -> Step<Self> {
        let file = "/proc/sys/kernel/random/boot_id";
        let boot_id = fs::read_to_string(file).map_err(step(format!("read {file}")))?.trim().to_owned();
        Ok(Self { install, boot_id, seen: Seen::default() })
    }

    fn bridge(&self) -> &str {
        &self.install.network.bridge
    }

    fn gateway(&self) -> Prefixed {
        let subnet = self.install.network.subnet;
        Prefixed { address: subnet.gateway(), prefix: subnet.prefix() }
    }
}

impl Host for Linux {
    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn has_link(&self, name: &str) -> Step<bool> {
        links::exists(name)
    }

    fn ensure_bridge(&self) -> Step<()> {
        links::ensure_bridge(self.bridge(), self.gateway())
    }

    fn is_bridge_ready(&self) -> Step<bool> {
        links::is_bridge_ready(self.bridge(), self.gateway())
    }

    fn ensure_tap(&self, guest: Ipv4Addr) -> Step<()> {
        let name = tap(guest);
        if !links::exists(&name)? {
            syscalls::tap::create(&name, self.install.owner.uid).map_err(step(format!("create the tap {name}")))?;
        }
        links::enslave(&name, self.bridge())
    }

    fn is_tap_ready(&self, guest: Ipv4Addr) -> Step<bool> {
        links::is_port_ready(&tap(guest), self.bridge())
    }

    fn remove_tap(&self, guest: Ipv4Addr) -> Step<()> {
        links::remove(&tap(guest))
    }

    fn remove_bridge(&self) -> Step<()> {
        links::remove(self.bridge())
    }

    fn apply_rules(&self, batch: &Value) -> Step<()> {
        let before = nft_generation::current();
        if self.seen.is_written(before, batch) {
            return Ok(());
        }
        let answer = nft::run(batch)?;
        if !answer.is_done {
            return Err(StepError::new("put the tables in place", answer.text));
        }
        let after = nft_generation::current();
        // One transaction later, and it was ours: the tables are what we wrote.
        let is_ours = matches!((before, after), (Some(before), Some(after)) if after == before.wrapping_add(1));
        self.seen.set(after.filter(|_| is_ours), batch, Source::Written);
        Ok(())
    }

    fn has_rules(&self, batch: &Value) -> Step<bool> {
        let generation = nft_generation::current();
        if self.seen.is(generation, batch) {
            return Ok(true);
        }
        let mut listings = Vec::new();
        for query in rules::render_queries() {
            let answer = nft::run(&query)?;
            match serde_json::from_str(&answer.text) {
                Ok(listing) if answer.is_done => listings.push(listing),
                // That a table is missing is an answer too.
                _ => return Ok(false),
            }
        }
        let is_there = rules::matches(batch, &listings);
        // Only if nothing was changed while nft looked.
        let unchanged = generation.filter(|_| is_there && nft_generation::current() == generation);
        self.seen.set(unchanged, batch, Source::Listed);
        Ok(is_there)
    }

    fn is_forwarding(&self) -> Step<bool> {
        forwarding::is_on()
    }

    fn set_forwarding(&self, forwarding: Switch) -> Step<()> {
        forwarding::set(forwarding)
    }

    fn set_resolver(&self, resolver: Switch) -> Step<()> {
        resolver::set(self.bridge(), self.gateway().address, resolver)
    }

    fn is_resolver_ready(&self) -> Step<bool> {
        resolver::is_ready(self.bridge(), self.gateway().address)
    }

    fn identify_image(&self, image: &ImageName, build: &BuildId) -> Step<FileIdentity> {
        root_disk::identify(self.install.owner.uid, image, build)
    }

    fn create_store(&self, vm: &VmId, mib: u64) -> Step<()> {
        root_disk::create_store(vm, mib)
    }

    fn remove_store(&self, vm: &VmId) -> Step<()> {
        root_disk::remove_store(vm)
    }

    fn activate_disk(&self, vm: &VmId, disk: &RootDisk) -> Step<(u32, u32)> {
        root_disk::activate(self.install.owner.uid, vm, disk)
    }

    fn deactivate_disk(&self, vm: &VmId) -> Step<()> {
        root_disk::deactivate(vm)
    }

    fn disk_usage(&self, vm: &VmId) -> Step<Usage> {
        root_disk::usage(vm)
    }

    fn start_machine(&self, vm: &VmId, limits: Limits) -> Step<(Process, OwnedFd)> {
        let unit = kernel_names::unit(vm);
        let attempt = || format!("start the machine monitor in {unit}");
        let process = unit::start(vm, limits).and_then(process::identify).map_err(|error| {
            // It can end before anybody had a look at it.
            failure::take(vm, attempt()).unwrap_or(error)
        })?;
        let ended = || {
            let why = failure::take(vm, attempt());
            why.unwrap_or_else(|| StepError::new(attempt(), "it ended before it started its guest"))
        };
        let pidfd = process::open(process)?.ok_or_else(ended)?;
        let socket = kernel_names::jail(vm).join(API_SOCKET);
        let give_up = Instant::now() + START_LIMIT;
        while !process::has_thread(process, VCPU_THREAD)? && !exists(&socket)? {
            if process::ends_by(&pidfd, Instant::now() + START_STEP) {
                return Err(ended());
            }
            if Instant::now() > give_up {
                let late = format!("it did not start its guest in {} s", START_LIMIT.as_secs());
                return Err(StepError::new(attempt(), late));
            }
        }
        Ok((process, pidfd))
    }

    fn has_machine(&self, vm: &VmId) -> Step<bool> {
        // Where systemd lays its groups out otherwise, anything may be.
        Ok(!has_one_hierarchy()? || exists(&kernel_names::control_group(vm))?)
    }

    fn stop_machine(&self, vm: &VmId) -> Step<()> {
        unit::stop(&kernel_names::unit(vm))
    }

    fn kill_machine(&self, vm: &VmId, process: Option<Process>) -> Step<()> {
        // Its unit goes with it. Systemd would be asked over a bus, in three questions, for what can be seen.
        let is_killed = process.is_some_and(|process| process::signal(process, Signal::Kill).is_ok());
        if is_killed && goes_by_itself(vm) {
            return Ok(());
        }
        // Whatever did not work: systemd ends all that is in the unit.
        self.stop_machine(vm)
    }

    fn open_process(&self, process: Process) -> Step<Option<OwnedFd>> {
        process::open(process)
    }

    fn signal(&self, process: Process, signal: Signal) -> Step<()> {
        process::signal(process, signal)
    }

    fn remove_jail(&self, vm: &VmId) -> Step<()> {
        failure::take(vm, String::new());
        let path = kernel_names::jail(vm);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StepError::new(format!("remove {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }

    fn remove_slice(&self) -> Step<()> {
        unit::stop_slice_if_empty()
    }
}

/// Of control groups, as [`kernel_names::control_group`] expects.
fn has_one_hierarchy() -> Step<bool> {
    exists(Path::new("/sys/fs/cgroup/cgroup.controllers"))
}

/// The unit's control group is seen to go; false if that cannot be seen, or takes too long.
fn goes_by_itself(vm: &VmId) -> bool {
    let group = kernel_names::control_group(vm);
    let give_up = Instant::now() + UNIT_LIMIT;
    while matches!(has_one_hierarchy(), Ok(true)) && Instant::now() < give_up {
        match exists(&group) {
            Ok(true) => std::thread::sleep(UNIT_STEP),
            gone_or_unknown => return gone_or_unknown.is_ok(),
        }
    }
    false
}

fn exists(path: &Path) -> Step<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StepError::new(format!("look for {}", path.display()), error)),
    }
}
