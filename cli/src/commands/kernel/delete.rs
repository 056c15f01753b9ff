//! `banger kernel delete`.

use banger_proto::v1::DeleteKernelRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::kernel::KernelView;

/// Delete a kernel nothing uses
///
///     banger kernel delete generic-6.1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DeleteArgs {
    /// Name of the kernel
    #[arg(value_name = "KERNEL", add = crate::completer::kernels())]
    pub kernel: String,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: DeleteArgs) -> CommandResult {
    let client = context.client().await?;
    let kernel = client.kernels().delete(DeleteKernelRequest { name: args.kernel }).await.or_fail()?.into_inner();
    if context.ui.is_json() {
        context.ui.json(&KernelView::from(&kernel))?;
    }
    context.ui.status(&format!("deleted {}", kernel.name));
    Ok(0)
}
