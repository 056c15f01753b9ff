//! `banger vm workspace status`.

use clap::Args;

use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::follow::{control, record};
use crate::view::follow::SessionsView;
use crate::view::time::now_ms;

/// Show the sessions that follow edits, with their conflicts
///
///     banger vm workspace status
///     banger vm workspace status box
///
/// One line a session: what it is doing, when something last went over, what is pending. Below are troubles, ways on, and
/// every file the guest has its own version of. A session whose process is gone is shown as dead.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StatusArgs {
    /// Only of this VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: Option<String>,
}

/// Runs it.
///
/// # Errors
/// There is no such session.
pub async fn run(context: &Context, args: StatusArgs) -> CommandResult {
    let paths = context.paths()?;
    let found = match &args.vm {
        Some(reference) => record::of_vm(&paths, reference),
        None => record::all(&paths),
    };
    if let (Some(reference), true) = (&args.vm, found.is_empty()) {
        let kind = banger_proto::failure::Kind::NotFound;
        return Err(CliError::new(kind, format!("no session follows edits into VM {reference}"))
            .hint(format!("Begin one with `banger vm workspace sync --watch {reference}`.")));
    }
    let mut sessions = Vec::with_capacity(found.len());
    for one in found {
        // One that lives and does not answer is just ending or beginning: what is written down is close enough.
        let answered = if one.alive { control::status(&one.place).await.ok() } else { None };
        sessions.push(match (answered, one.alive) {
            (Some(status), _) => status,
            (None, true) => one.record.last,
            (None, false) => one.record.last.dead(),
        });
    }
    let view = SessionsView { sessions };
    if context.ui.is_json() {
        context.ui.json(&view)?;
    } else {
        context.ui.data(&view.render(now_ms()))?;
    }
    Ok(0)
}
