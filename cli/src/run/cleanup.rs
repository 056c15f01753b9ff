//! Deletes the VM of `--rm`. On a connection of its own and with its own deadline: whatever ended the session must
//! not end this. The first interrupt meanwhile is only answered, the second gives up.

use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::v1::{DeleteVmRequest, Vm};

use crate::context::Context;
use crate::error::CliError;
use crate::interrupt::Interrupts;
use crate::known_hosts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::event::RunEvent;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Deletes it.
///
/// # Errors
/// It is still there, or may be.
pub async fn delete(context: &Context, interrupts: &mut Interrupts, vm: &Vm) -> Result<(), CliError> {
    let deleting = async {
        match tokio::time::timeout(TIMEOUT, delete_once(context, vm)).await {
            Ok(deleted) => deleted,
            Err(_) => Err(CliError::new(Kind::Failed, format!("it took longer than {} s", TIMEOUT.as_secs()))),
        }
    };
    let deleted = interrupts.guard_stubbornly(&context.ui, deleting).await;
    deleted.map_err(|error| {
        error
            .context(format!("cannot delete VM {}", vm.name))
            .hint(format!("Try again with `banger vm delete {}`.", vm.name))
    })?;
    if context.ui.is_json() {
        let _ = context.ui.event(&RunEvent::Deleted { id: &vm.id, name: &vm.name });
    } else {
        context.ui.dim_status(&format!("deleted {}", vm.name));
    }
    Ok(())
}

async fn delete_once(context: &Context, vm: &Vm) -> Result<(), CliError> {
    let client = context.client().await?;
    let mut vms = client.vms();
    let call = vms.delete(DeleteVmRequest { reference: vm.id.clone() });
    match follow(call, Reporting::Warnings(&context.ui), &mut Seen::default()).await {
        // Somebody else was faster.
        Err(error) if error.kind() == Some(Kind::NotFound) => {}
        result => result?,
    }
    let paths = context.paths()?;
    crate::workspace_record::forget(&paths.state, &vm.id);
    Ok(known_hosts::forget(&paths.known_hosts(), &vm.id)?)
}

/// The first error stays what it is; what could not be cleaned up is named beside it.
pub fn attach(error: CliError, left: &CliError) -> CliError {
    let CliError::Failed(left) = left else { return error };
    match error {
        CliError::Failed(mut failure) => {
            failure.left_behind.push(left.to_string());
            for hint in &left.hints {
                *failure = failure.hint(hint.clone());
            }
            CliError::Failed(failure)
        }
        // Nothing else went wrong, so this is the error.
        CliError::OutputClosed => CliError::Failed(left.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_stays_primary() {
        let left = CliError::new(Kind::Unreachable, "cannot delete VM box").hint("Try `x`.");
        let CliError::Failed(both) = attach(CliError::new(Kind::Cancelled, "cancelled"), &left) else {
            panic!("not a failure")
        };
        assert_eq!(both.kind, Kind::Cancelled);
        assert_eq!(both.left_behind, ["cannot delete VM box"]);
        assert_eq!(both.hints, ["Try `x`."]);
        let alone = attach(CliError::OutputClosed, &left);
        assert_eq!(alone.kind(), Some(Kind::Unreachable));
    }
}
