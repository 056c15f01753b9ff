//! A machine monitor that ended by itself leaves devices and a jail. Before a request they are taken away, so that it
//! finds the ledger true: of the VM it names, or of all if it names none.

use banger_proto::names::VmId;

use crate::error::Step;
use crate::ledger::Process;
use crate::world::World;

/// Settles this VM, or every one; says what could not be taken away, for the log.
pub fn perform(world: &mut World, only: Option<&VmId>) -> Vec<String> {
    let launched = |(vm, holdings): (&VmId, &crate::ledger::Holdings)| {
        if only.is_some_and(|only| only != vm) {
            return None;
        }
        let process = holdings.machine.as_ref()?.process?;
        holdings.intent.is_none().then(|| (vm.clone(), process))
    };
    let launched: Vec<_> = world.ledger().vms().filter_map(launched).collect();
    let mut problems = Vec::new();
    for (vm, process) in launched {
        let settled = match world.host.open_process(process) {
            Ok(Some(_)) => continue,
            Ok(None) => settle(world, &vm, process),
            Err(error) => Err(error),
        };
        problems.extend(settled.err().map(|error| crate::error::chain(&error)));
    }
    problems
}

fn settle(world: &mut World, vm: &VmId, ended: Process) -> Step<()> {
    world.host.kill_machine(vm, Some(ended))?;
    world.host.deactivate_disk(vm)?;
    world.host.remove_jail(vm)?;
    world.change(vm, |holdings| {
        holdings.machine = None;
        holdings.disk_active = false;
    })
}
