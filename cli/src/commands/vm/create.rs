//! `banger vm create`.

use banger_sync::files::Guest;
use clap::Args;

use super::new_vm::NewVmArgs;
use crate::context::Context;
use crate::error::CommandResult;
use crate::interrupt::Interrupts;
use crate::operation::Reporting;
use crate::run::{create, files};
use crate::sizing::Host;
use crate::view::vm::VmView;

/// Make a VM
///
/// Returns when the VM is as far as --wait says. The parts of `banger vm run`, for scripts:
///
///     banger vm create --name box --image debian-bookworm
///     banger vm ssh box
///
/// Only make it, and start it later:
///
///     banger vm create --name box --no-start
///     banger vm start box
///
/// Prints the VM's name. Next: `banger vm workspace prepare box ./repo`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct CreateArgs {
    /// The new VM.
    #[command(flatten)]
    pub vm: NewVmArgs,
    /// Do not start it
    #[arg(long)]
    pub no_start: bool,
}

/// Runs it.
///
/// # Errors
/// Of any step.
pub async fn run(context: &Context, args: CreateArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let config = context.config()?;
    let spec = args.vm.decide(&config, Host::observe())?;
    // One that is only made gets them when it is started.
    let wanted = if args.no_start { &[][..] } else { &config.file_sync };
    let files = interrupts.guard("reading the files of file_sync", files::read(context, wanted)).await?;
    context.notice_root();
    context.ui.status(&spec.line());
    let mut request = spec.request(context.owner()?);
    request.start = !args.no_start;
    let client = interrupts.guard("reaching bangerd", context.client()).await?;
    let reporting = Reporting::final_object(&context.ui);
    let vm = create::create(context, &client, &mut interrupts, request, reporting).await?;
    let delivering = files::deliver_after_start(context, &client, &files, (&vm, Guest::Fresh));
    interrupts.guard("delivering the files of file_sync", delivering).await?;
    if context.ui.is_json() {
        context.ui.json(&VmView::from(&vm))?;
    } else {
        context.ui.data(&format!("{}\n", crate::ui::style::escape(&vm.name)))?;
    }
    Ok(0)
}
