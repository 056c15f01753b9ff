//! `banger system status`.

use banger_proto::install::Install;
use banger_proto::v1::{GetVersionResponse, Vm};
use clap::Args;

use crate::client::{Client, installed};
use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::install::host::Host;
use crate::install::observe::observe;
use crate::mode::Mode;
use crate::view::install::{SystemView, render_system};
use crate::view::version::{StatusView, render_status};

/// Say what runs, of which version, and for whom
///
///     banger system status
///     banger system status --json
///
/// Never starts anything. Of installed services it tells the state, the programs on disk, the owner, the network and
/// the VMs; the exit status is 6 if one of them is down.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StatusArgs {}

/// Runs it.
///
/// # Errors
/// Something is in the daemon's place that is not one.
pub async fn run(context: &Context, _args: StatusArgs) -> CommandResult {
    if let Mode::System(install) = context.mode()? {
        return of_services(context, *install).await;
    }
    let client = context.running_client().await?;
    let daemon = client.as_ref().map(Client::daemon);
    let paths = context.paths()?;
    let (socket, log) = (paths.socket(), paths.daemon_log());
    if context.ui.is_json() {
        context.ui.json(&StatusView::new(&socket, Some(&log), daemon))?;
    } else {
        context.ui.data(&render_status(&socket, Some(&log), daemon))?;
    }
    Ok(0)
}

async fn of_services(context: &Context, install: Install) -> CommandResult {
    let (daemon, vms) = match ask(&install).await {
        Ok(answer) => answer,
        // Whoever may not ask the daemon still sees what systemd and the files say.
        Err(error) => {
            if let CliError::Failed(failure) = error {
                context.ui.warn(&failure.to_string());
            }
            (None, None)
        }
    };
    let state = observe(&Host::this(), install);
    if context.ui.is_json() {
        context.ui.json(&SystemView::new(&state, daemon.as_ref(), vms.as_deref()))?;
    } else {
        context.ui.data(&render_system(&state, daemon.as_ref(), vms.as_deref()))?;
    }
    Ok(if state.is_up() { 0 } else { banger_proto::failure::Kind::Unreachable.exit_code() })
}

async fn ask(install: &Install) -> Result<(Option<GetVersionResponse>, Option<Vec<Vm>>), CliError> {
    let Some(client) = installed::find(install).await? else { return Ok((None, None)) };
    let vms = client.list_vms().await?;
    Ok((Some(client.daemon().clone()), Some(vms)))
}
