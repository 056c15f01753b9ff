//! `banger vm list` and `banger ps`.

use clap::Args;

use crate::context::Context;
use crate::error::CommandResult;
use crate::view::time::now_ms;
use crate::view::vm::{VmListView, render_list};

/// List VMs
///
///     banger vm list
///     banger ps --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ListArgs {}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, _args: ListArgs) -> CommandResult {
    let vms = context.client().await?.list_vms().await?;
    if context.ui.is_json() {
        context.ui.json(&VmListView::new(&vms))?;
    } else {
        context.ui.data(&render_list(&vms, now_ms()))?;
    }
    Ok(0)
}
