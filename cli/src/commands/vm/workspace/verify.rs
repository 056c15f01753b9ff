//! `banger vm workspace verify`.

use std::path::PathBuf;

use banger_proto::failure::Kind;
use banger_proto::v1::GetVmRequest;
use banger_sync::receiver::sync_command;
use clap::Args;

use crate::args::GuestPath;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::run::{attach, reach, workspace};
use crate::view::workspace::VerifyView;

/// Compare a repository with its copy in a VM, byte for byte
///
///     banger vm workspace verify box
///
/// The guest reads every file again; nothing it remembered is believed, and nothing is changed. Ends with 0 only if
/// both sides are equal, with 1 after listing what is not. Files that only the guest has and that never came from the
/// host are no difference.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct VerifyArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Directory inside the repository [default: where the workspace came from]
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub path: Option<PathBuf>,
    /// Where the guest has it [default: where it was prepared]
    #[arg(long, value_name = "PATH")]
    pub guest_path: Option<GuestPath>,
}

/// Runs it.
///
/// # Errors
/// Of any step, and the difference itself.
pub async fn run(context: &Context, args: VerifyArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let client = interrupts.guard("reaching bangerd", context.client()).await?;
    let vm = client.vms().get(GetVmRequest { reference: args.vm }).await.or_fail()?.into_inner();
    attach::require_running(&vm)?;
    let plan = workspace::plan_again(context, &vm, args.path, args.guest_path)?;
    let overlay = interrupts.guard("reading the repository", workspace::observe(context, &plan)).await?;
    let comparing = async {
        let connection = reach::connect(context, &client, &vm, reach::ALREADY_RUNNING).await?;
        let verified =
            banger_sync::verify::verify(&connection, &overlay, &sync_command(plan.guest_path.as_str())).await;
        connection.close().await;
        Ok(verified?)
    };
    let verified = interrupts.guard("comparing", comparing).await?;
    let view = VerifyView::new(&verified, plan.guest_path.as_str());
    if context.ui.is_json() {
        context.ui.json(&view)?;
    } else {
        context.ui.data(&view.render())?;
    }
    if verified.differences.is_empty() {
        return Ok(0);
    }
    let message = format!("{} of {} paths differ", verified.differences.len(), verified.paths);
    Err(CliError::new(Kind::Failed, message)
        .hint(format!("Bring the guest up to date with `banger vm workspace prepare {}`.", vm.name)))
}
