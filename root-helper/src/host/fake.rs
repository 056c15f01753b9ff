//! A host made of sets: what exists, what was asked in which order, and one call that fails if a test says so.
//!
//! A call that is to fail does its work first or not at all, as the test chooses: a crash can come at either side.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use banger_proto::install::tap;
use banger_proto::names::{BuildId, ImageName, VmId};
use serde_json::Value;

use super::{Host, Limits, Usage, rules};
use crate::error::{Step, StepError};
use crate::ledger::{FileIdentity, Process, RootDisk};
use crate::request::{Signal, Switch};

/// At which side of its work the call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fails {
    Before,
    After,
}

/// What a test keeps to look at.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub objects: Mutex<BTreeSet<String>>,
    pub calls: Mutex<Vec<String>>,
    pub is_forwarding: AtomicBool,
    pub rules: Mutex<Value>,
    /// Number of the call that fails, counted from the present one; 0 for none.
    pub fault: Mutex<Option<(usize, Fails)>>,
    /// Processes that ended by themselves.
    pub has_ended: AtomicBool,
}

pub(crate) struct Fake(pub Arc<Facts>);

/// The tests have one thread: no lock is ever waited for.
pub(crate) const FREE: &str = "no test panicked while it held this";

impl Facts {
    /// Makes the n-th call from now fail.
    pub fn fail(&self, call: usize, fails: Fails) {
        *self.fault.lock().expect(FREE) = Some((call, fails));
    }

    fn call<T>(&self, name: String, work: impl FnOnce(&mut BTreeSet<String>) -> T) -> Step<T> {
        self.calls.lock().expect(FREE).push(name.clone());
        let mut fault = self.fault.lock().expect(FREE);
        let fails = match *fault {
            Some((1, fails)) => {
                *fault = None;
                Some(fails)
            }
            Some((left, fails)) => {
                *fault = Some((left - 1, fails));
                None
            }
            None => None,
        };
        drop(fault);
        let error = || StepError::new(name.clone(), "the test says so");
        if fails == Some(Fails::Before) {
            return Err(error());
        }
        let value = work(&mut self.objects.lock().expect(FREE));
        if fails == Some(Fails::After) { Err(error()) } else { Ok(value) }
    }

    fn add(&self, call: &str, object: String) -> Step<()> {
        self.call(format!("{call} {object}"), |objects| _ = objects.insert(object.clone()))
    }

    fn take(&self, call: &str, object: String) -> Step<()> {
        self.call(format!("{call} {object}"), |objects| _ = objects.remove(&object))
    }
}

/// The process of every machine monitor here.
pub(crate) const PROCESS: Process = Process { pid: 7, start_time_ticks: 70 };

fn pidfd() -> OwnedFd {
    File::open("/dev/null").expect("it is always there").into()
}

impl Host for Fake {
    fn boot_id(&self) -> &str {
        "boot"
    }

    fn has_link(&self, name: &str) -> Step<bool> {
        let name = format!("link {name}");
        self.0.call(format!("has {name}"), |objects| objects.contains(&name))
    }

    fn ensure_bridge(&self) -> Step<()> {
        self.0.add("ensure", "link br-fc".into())
    }

    fn is_bridge_ready(&self) -> Step<bool> {
        self.0.call("look at bridge".into(), |objects| objects.contains("link br-fc"))
    }

    fn ensure_tap(&self, guest: Ipv4Addr) -> Step<()> {
        self.0.add("ensure", format!("link {}", tap(guest)))
    }

    fn is_tap_ready(&self, guest: Ipv4Addr) -> Step<bool> {
        self.0.call("look at tap".into(), |objects| objects.contains(&format!("link {}", tap(guest))))
    }

    fn remove_tap(&self, guest: Ipv4Addr) -> Step<()> {
        self.0.take("remove", format!("link {}", tap(guest)))
    }

    fn remove_bridge(&self) -> Step<()> {
        self.0.take("remove", "link br-fc".into())
    }

    fn apply_rules(&self, batch: &Value) -> Step<()> {
        self.0.call("apply rules".into(), |objects| {
            if *batch == rules::render_removal() {
                objects.remove("tables");
            } else {
                objects.insert("tables".into());
            }
            *self.0.rules.lock().expect(FREE) = batch.clone();
        })
    }

    fn has_rules(&self, batch: &Value) -> Step<bool> {
        self.0.call("look at rules".into(), |_| *self.0.rules.lock().expect(FREE) == *batch)
    }

    fn is_forwarding(&self) -> Step<bool> {
        self.0.call("look at forwarding".into(), |_| self.0.is_forwarding.load(Ordering::SeqCst))
    }

    fn set_forwarding(&self, forwarding: Switch) -> Step<()> {
        self.0.call(format!("set forwarding {forwarding:?}"), |_| {
            self.0.is_forwarding.store(forwarding == Switch::On, Ordering::SeqCst)
        })
    }

    fn set_resolver(&self, resolver: Switch) -> Step<()> {
        match resolver {
            Switch::On => self.0.add("set", "resolver".into()),
            Switch::Off => self.0.take("revert", "resolver".into()),
        }
    }

    fn is_resolver_ready(&self) -> Step<bool> {
        self.0.call("look at resolver".into(), |objects| objects.contains("resolver"))
    }

    fn identify_image(&self, _: &ImageName, _: &BuildId) -> Step<FileIdentity> {
        self.0.call("identify image".into(), |_| FileIdentity { device: 1, inode: 2 })
    }

    fn create_store(&self, vm: &VmId, _: u64) -> Step<()> {
        self.0.add("create", format!("store {vm}"))
    }

    fn remove_store(&self, vm: &VmId) -> Step<()> {
        self.0.take("remove", format!("store {vm}"))
    }

    fn activate_disk(&self, vm: &VmId, _: &RootDisk) -> Step<(u32, u32)> {
        self.0.add("activate", format!("disk {vm}")).map(|()| (253, 0))
    }

    fn deactivate_disk(&self, vm: &VmId) -> Step<()> {
        self.0.take("deactivate", format!("disk {vm}"))
    }

    fn disk_usage(&self, _: &VmId) -> Step<Usage> {
        self.0.call("ask usage".into(), |_| Usage { used: 16, total: 2048 })
    }

    fn start_machine(&self, vm: &VmId, _: Limits) -> Step<(Process, OwnedFd)> {
        self.0.has_ended.store(false, Ordering::SeqCst);
        self.0.call(format!("start machine {vm}"), |objects| {
            objects.insert(format!("machine {vm}"));
            objects.insert(format!("jail {vm}"));
        })?;
        Ok((PROCESS, pidfd()))
    }

    fn has_machine(&self, _: &VmId) -> Step<bool> {
        Ok(true)
    }

    fn stop_machine(&self, vm: &VmId) -> Step<()> {
        self.0.take("stop", format!("machine {vm}"))
    }

    fn kill_machine(&self, vm: &VmId, process: Option<Process>) -> Step<()> {
        if let Some(process) = process {
            // Stopping the unit ends it as well.
            let _ = self.signal(process, Signal::Kill);
        }
        self.stop_machine(vm)
    }

    fn open_process(&self, _: Process) -> Step<Option<OwnedFd>> {
        Ok((!self.0.has_ended.load(Ordering::SeqCst)).then(pidfd))
    }

    fn signal(&self, process: Process, signal: Signal) -> Step<()> {
        self.0.call(format!("signal {} {signal:?}", process.pid), |_| ())
    }

    fn remove_jail(&self, vm: &VmId) -> Step<()> {
        self.0.take("remove", format!("jail {vm}"))
    }

    fn remove_slice(&self) -> Step<()> {
        self.0.call("remove slice".into(), |_| ())
    }
}
