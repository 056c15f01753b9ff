//! `banger vm workspace flush`.

use banger_proto::failure::Kind;
use clap::Args;

use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::follow::control::{self, Answer, Ask};
use crate::follow::record;
use crate::interrupt::Interrupts;
use crate::view::follow::FlushedView;

/// Wait until a followed workspace is in step, and print its tree
///
///     banger vm workspace flush box && banger vm exec box -- make test
///
/// Whatever was saved before this began is in the guest when it ends with 0, and both sides computed the same digest, which
/// is printed. Ends with 4 where the guest has files of its own. For a command: `banger vm exec --synced`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct FlushArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
}

/// Runs it.
///
/// # Errors
/// There is no session, it cannot get in step, or the guest has work of its own.
pub async fn run(context: &Context, args: FlushArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let found = record::the_one(&context.paths()?, &args.vm)?;
    let answer =
        interrupts.guard("waiting for both sides to be equal", control::ask(&found.place, &Ask::Flush)).await?;
    let Answer::Flushed(flushed) = answer else {
        return Err(CliError::new(Kind::Internal, "the session answers something else than it was asked"));
    };
    if context.ui.is_json() {
        context.ui.json(&flushed)?;
    } else {
        context.ui.data(&format!("{}\n", flushed.tree_digest))?;
    }
    refuse_conflicts(&flushed, &found.record.vm_name)?;
    Ok(0)
}

/// A tree with work of the guest in it is not the host's.
///
/// # Errors
/// [`Kind::Conflict`].
pub fn refuse_conflicts(flushed: &FlushedView, vm: &str) -> Result<(), CliError> {
    let Some(first) = flushed.conflicts.first() else { return Ok(()) };
    let more = match flushed.conflicts.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Err(CliError::new(Kind::Conflict, format!("the guest has its own version of {}{more}", first.path))
        .hint(format!("See them with `banger vm workspace status {vm}`."))
        .hint(format!("Settle one with `banger vm workspace resolve {vm} --prefer host|guest PATH`.")))
}
