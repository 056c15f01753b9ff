//! `banger vm prune`.

use std::io::IsTerminal as _;

use banger_proto::failure::Kind;
use banger_proto::v1::{ListOperationsRequest, Operation, Vm, VmState};
use clap::Args;

use super::delete::{VERB, delete_one};
use super::targets::{Targets, act_on};
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::view::outcome::OutcomesView;
use crate::view::{time, vm};

/// Delete every VM that is not running
///
///     banger vm prune
///     banger vm prune -f
///
/// VMs whose workspace has work that exists nowhere else are refused and stay, unless --discard is given.
///
/// Asks first, with a list; -f does not, and is needed where there is no terminal to ask on.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Delete also VMs whose workspace has, or may have, work that exists nowhere else
    #[arg(long)]
    pub discard: bool,
}

/// Runs it.
///
/// # Errors
/// Refused without an answer, or the first failure.
pub async fn run(context: &Context, args: PruneArgs) -> CommandResult {
    let client = context.client().await?;
    let running = client.operations().list(ListOperationsRequest { include_done: false }).await.or_fail()?;
    let candidates = prunable(client.list_vms().await?, &running.into_inner().operations);
    if candidates.is_empty() {
        if context.ui.is_json() {
            context.ui.json(&OutcomesView::new(&[]))?;
        }
        context.ui.status("nothing to delete: every VM is running");
        return Ok(0);
    }
    if !args.force {
        if !std::io::stdin().is_terminal() || context.ui.is_json() {
            let message = format!("refusing to delete {} VMs without being asked to on a terminal", candidates.len());
            return Err(CliError::new(Kind::Refused, message).hint("Add `--force`, as in `banger vm prune -f`."));
        }
        context.ui.status("these VMs are not running:");
        for line in vm::render_list(&candidates, time::now_ms()).lines() {
            context.ui.status(line);
        }
        if !context.ui.confirm(&format!("delete {} VMs and their disks?", candidates.len())) {
            return Err(CliError::cancelled("nothing was deleted"));
        }
    }
    // Only now: before, Ctrl-C at the question simply ends the program.
    let mut interrupts = Interrupts::install()?;
    let targets = Targets::all(candidates);
    act_on(context, &mut interrupts, (client, targets), VERB, |work, vm| delete_one(context, work, vm, args.discard))
        .await
}

/// VMs that do not run and that nobody is working on: a VM is `created` for a moment of every `vm run`, too.
fn prunable(vms: Vec<Vm>, under_way: &[Operation]) -> Vec<Vm> {
    vms.into_iter()
        .filter(|vm| matches!(vm.state(), VmState::Created | VmState::Provisioned | VmState::Stopped | VmState::Broken))
        .filter(|vm| !under_way.iter().any(|operation| operation.subject == vm.name || operation.subject == vm.id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_vms_and_those_being_worked_on_are_kept() {
        let vm = |name: &str, state: VmState| Vm { name: name.into(), state: state.into(), ..Vm::default() };
        let vms = vec![
            vm("new", VmState::Created),
            vm("making", VmState::Created),
            vm("up", VmState::Running),
            vm("booting", VmState::Booting),
            vm("off", VmState::Stopped),
            vm("bad", VmState::Broken),
        ];
        let under_way = [Operation { subject: "making".into(), ..Operation::default() }];
        let names: Vec<String> = prunable(vms, &under_way).into_iter().map(|vm| vm.name).collect();
        assert_eq!(names, ["new", "off", "bad"]);
    }
}
