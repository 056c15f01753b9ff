//! `banger vm show`.

use banger_proto::v1::GetVmRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::time::now_ms;
use crate::view::vm::{VmView, render_details};

/// Show all about one VM
///
///     banger vm show box
///     banger vm show box --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ShowArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: ShowArgs) -> CommandResult {
    let client = context.client().await?;
    let vm = client.vms().get(GetVmRequest { reference: args.vm }).await.or_fail()?.into_inner();
    if context.ui.is_json() {
        context.ui.json(&VmView::from(&vm))?;
    } else {
        context.ui.data(&render_details(&vm, now_ms()))?;
    }
    Ok(0)
}
