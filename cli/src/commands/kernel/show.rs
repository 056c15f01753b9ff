//! `banger kernel show`.

use banger_proto::v1::GetKernelRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::kernel::{KernelView, render_details};

/// Show all about one kernel
///
///     banger kernel show generic-6.12
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ShowArgs {
    /// Name of the kernel
    #[arg(value_name = "KERNEL", add = crate::completer::kernels())]
    pub kernel: String,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: ShowArgs) -> CommandResult {
    let client = context.client().await?;
    let kernel = client.kernels().get(GetKernelRequest { name: args.kernel }).await.or_fail()?.into_inner();
    if context.ui.is_json() {
        context.ui.json(&KernelView::from(&kernel))?;
    } else {
        context.ui.data(&render_details(&kernel))?;
    }
    Ok(0)
}
