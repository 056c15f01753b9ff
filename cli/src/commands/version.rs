//! `banger version`.

use clap::Args;

use crate::client::Client;
use crate::context::Context;
use crate::error::CommandResult;
use crate::view::version::{VersionView, render};

/// Print versions
///
///     banger version
///     banger --version
///
/// Of this program, and of bangerd if it runs; it is not started for this.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct VersionArgs {}

/// Runs it.
///
/// # Errors
/// Only that nobody reads.
pub async fn run(context: &Context, _args: VersionArgs) -> CommandResult {
    // A broken host still has a version.
    let client = context.running_client().await.ok().flatten();
    let daemon = client.as_ref().map(Client::daemon);
    if context.ui.is_json() {
        context.ui.json(&VersionView::new(daemon))?;
    } else {
        context.ui.data(&render(daemon))?;
    }
    Ok(0)
}
