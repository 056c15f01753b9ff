//! Everything the ledger lists for one VM goes. No failure stops the rest; the entry goes last, and only if all did.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmId;

use super::ensure_network::{apply_forwarding, apply_rules};
use crate::ledger::Intent;
use crate::world::{CleanUp, World};

/// Not everything went.
#[derive(Debug, thiserror::Error)]
#[error("cannot take away everything of the VM {vm}: {}", left_behind.join("; "))]
pub struct TeardownVmError {
    /// Which VM.
    pub vm: VmId,
    /// What stayed, and why.
    pub left_behind: Vec<String>,
}

impl Classified for TeardownVmError {
    fn kind(&self) -> Kind {
        Kind::Failed
    }

    fn hints(&self) -> Vec<String> {
        vec!["Nothing of it is forgotten: ask for the same again, or read `journalctl -u bangerd-root`.".to_owned()]
    }
}

/// Takes it away.
///
/// # Errors
/// [`TeardownVmError`]; asking again goes on with what stayed.
pub fn perform(world: &mut World, vm: &VmId) -> Result<(), TeardownVmError> {
    let mut clean_up = CleanUp::default();
    clean_up.attempt(world.begin(vm, Intent::TeardownVm, |_| ()));
    let holdings = world.holdings(vm);
    if let Some(machine) = &holdings.machine {
        // Without mercy: whoever wanted the guest to end well stopped it before.
        clean_up.attempt(world.host.kill_machine(vm, machine.process));
    }
    if holdings.disk_active {
        clean_up.attempt(world.host.deactivate_disk(vm));
    }
    clean_up.attempt(world.host.remove_jail(vm));
    if holdings.root_disk.is_some() {
        clean_up.attempt(world.host.remove_store(vm));
    }
    if let Some(guest) = holdings.link {
        clean_up.attempt(world.host.remove_tap(guest));
    }
    if clean_up.left_behind.is_empty() {
        clean_up.attempt(world.change(vm, |holdings| *holdings = crate::ledger::Holdings::default()));
    }
    if holdings.link.is_some() {
        clean_up.attempt(apply_forwarding(world));
        clean_up.attempt(apply_rules(world));
    }
    let left_behind = clean_up.left_behind;
    if left_behind.is_empty() { Ok(()) } else { Err(TeardownVmError { vm: vm.clone(), left_behind }) }
}
