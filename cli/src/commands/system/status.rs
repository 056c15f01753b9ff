//! `banger system status`.

use clap::Args;

use crate::client::Client;
use crate::context::Context;
use crate::error::CommandResult;
use crate::view::version::{StatusView, render_status};

/// Say whether bangerd runs, and where
///
///     banger system status
///
/// Never starts it.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StatusArgs {}

/// Runs it.
///
/// # Errors
/// Something is in the daemon's place that is not one.
pub async fn run(context: &Context, _args: StatusArgs) -> CommandResult {
    let client = context.running_client().await?;
    let daemon = client.as_ref().map(Client::daemon);
    let paths = context.paths()?;
    let (socket, log) = (paths.socket(), paths.daemon_log());
    if context.ui.is_json() {
        context.ui.json(&StatusView::new(&socket, &log, daemon))?;
    } else {
        context.ui.data(&render_status(&socket, &log, daemon))?;
    }
    Ok(0)
}
