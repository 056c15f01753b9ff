//! `banger system restart`.

use banger_proto::failure::Kind;
use clap::Args;

use crate::client::{Client, installed};
use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::install::host::Host;
use crate::install::layout::{DAEMON_UNIT, HELPER_UNIT};
use crate::install::require_root;
use crate::install::services::systemctl;
use crate::mode::Mode;
use crate::view::version::{StatusView, render_status};

/// Restart both services; VMs keep running
///
///     sudo banger system restart
///
/// Returns when both are ready again.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct RestartArgs {}

/// Runs it.
///
/// # Errors
/// Nothing is installed, or a service does not come up.
pub async fn run(context: &Context, _args: RestartArgs) -> CommandResult {
    require_root("system restart")?;
    let Mode::System(install) = context.mode()? else {
        return Err(CliError::new(Kind::HostNotReady, "cannot restart banger's services: they are not installed")
            .hint("Install them with `sudo banger system install --owner USER`."));
    };
    let host = Host::this();
    // The helper first: the daemon asks it at its start.
    systemctl(&host, &["restart"], &[HELPER_UNIT])?;
    systemctl(&host, &["restart"], &[DAEMON_UNIT])?;
    let client: Client = installed::require(&install).await?;
    let socket = installed::socket();
    if context.ui.is_json() {
        context.ui.json(&StatusView::new(&socket, None, Some(client.daemon())))?;
    } else {
        context.ui.status("both services have been restarted");
        context.ui.data(&render_status(&socket, None, Some(client.daemon())))?;
    }
    Ok(0)
}
