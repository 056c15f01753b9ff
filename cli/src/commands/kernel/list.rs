//! `banger kernel list`.

use banger_proto::v1::ListKernelsRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::kernel::{KernelListView, render_list};
use crate::view::time::now_ms;

/// List kernels
///
///     banger kernel list
///     banger kernel list --available
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ListArgs {
    /// Also those of the catalog that are not here yet
    #[arg(long)]
    pub available: bool,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: ListArgs) -> CommandResult {
    let client = context.client().await?;
    let request = ListKernelsRequest { include_available: args.available };
    let kernels = client.kernels().list(request).await.or_fail()?.into_inner().kernels;
    if context.ui.is_json() {
        context.ui.json(&KernelListView::new(&kernels))?;
    } else {
        context.ui.data(&render_list(&kernels, now_ms()))?;
    }
    Ok(0)
}
