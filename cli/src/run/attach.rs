//! A session in a VM that runs already: `vm ssh` and `vm exec`.

use banger_proto::failure::Kind;
use banger_proto::v1::{GetVmRequest, Vm, VmState};

use super::reach;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::session::{self, Request, Terminal};
use crate::view::event::RunEvent;
use crate::view::vm::state_word;

/// Which session in which VM.
#[derive(Debug)]
pub struct Attach {
    /// As it was typed.
    pub reference: String,
    /// For command or shell.
    pub terminal: Terminal,
    /// A shell, not a command.
    pub interactive: bool,
    /// Whose it is in the guest; empty: whom the image names, else root's.
    pub user: String,
}

/// Runs it; `command` is the string for the remote shell, `None` a login shell.
///
/// # Errors
/// Of any step.
pub async fn attach(
    context: &Context,
    interrupts: &mut Interrupts,
    wanted: Attach,
    command: impl FnOnce(&Vm) -> Option<String>,
) -> CommandResult {
    if context.ui.is_json() && (wanted.interactive || wanted.terminal == Terminal::Ours) {
        return Err(CliError::usage("--json has no form for a terminal session").hint("Leave out `--json`."));
    }
    let finding = async {
        let client = context.client().await?;
        let request = GetVmRequest { reference: wanted.reference.clone() };
        let vm = client.vms().get(request).await.or_fail()?.into_inner();
        require_running(&vm)?;
        // VMs made before a key existed do not happen, but a deleted key directory does.
        context.owner()?;
        context.remember_host_key(&vm);
        let connection = reach::connect(context, &client, &vm, reach::ALREADY_RUNNING).await?;
        Ok((vm, connection))
    };
    let (vm, connection) = interrupts.guard("connecting to the VM", finding).await?;
    let request = Request { command: command(&vm), terminal: wanted.terminal, user: wanted.user };
    let end = session::run(&connection, &request, &context.ui, interrupts).await;
    connection.close().await;
    let end = end?;
    if context.ui.is_json() {
        let _ = context.ui.event(&RunEvent::Exit { status: end.exit_status(), signal: end.signal() });
    }
    if wanted.interactive {
        remind(context, &vm);
    }
    Ok(end.exit_status())
}

/// Refuses a VM in which nothing can be run.
///
/// # Errors
/// [`Kind::Conflict`].
pub fn require_running(vm: &Vm) -> Result<(), CliError> {
    let name = &vm.name;
    let not_running = || CliError::new(Kind::Conflict, format!("VM {name} is {}, not running", state_word(vm.state())));
    match vm.state() {
        VmState::Running | VmState::Booting => Ok(()),
        VmState::Created | VmState::Provisioned | VmState::Stopping | VmState::Stopped => {
            Err(not_running().hint(format!("Start it with `banger vm start {name}`.")))
        }
        VmState::Broken | VmState::Unspecified => {
            Err(not_running().hint(format!("See why with `banger vm show {name}`.")))
        }
    }
}

/// After a session at a terminal one easily forgets that the VM goes on.
pub fn remind(context: &Context, vm: &Vm) {
    if context.ui.notes_is_terminal() {
        let name = &vm.name;
        context.ui.status(&format!("VM {name} is still running: `banger vm ssh {name}`, or `banger vm delete {name}`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_vm_can_be_entered() {
        let judge = |state: VmState| {
            let vm = Vm { name: "box".into(), state: state.into(), ..Vm::default() };
            require_running(&vm).map_err(|error| match error {
                CliError::Failed(failure) => (failure.kind, failure.hints.join(" ")),
                CliError::OutputClosed => (Kind::Internal, String::new()),
            })
        };
        assert_eq!(judge(VmState::Running), Ok(()));
        assert_eq!(judge(VmState::Stopped), Err((Kind::Conflict, "Start it with `banger vm start box`.".into())));
        assert_eq!(judge(VmState::Broken), Err((Kind::Conflict, "See why with `banger vm show box`.".into())));
    }
}
