//! `banger vm workspace pause`, `resume` and `stop`.

use clap::Args;

use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::follow::control::{self, Ask};
use crate::follow::record;

/// Which session.
#[derive(Debug, Args)]
pub struct SteerArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
}

/// Sends nothing until `resume`.
///
/// # Errors
/// There is no session.
pub async fn pause(context: &Context, args: SteerArgs) -> CommandResult {
    told(context, &args.vm, &Ask::Pause).await
}

/// Goes on.
///
/// # Errors
/// There is no session.
pub async fn resume(context: &Context, args: SteerArgs) -> CommandResult {
    told(context, &args.vm, &Ask::Resume).await
}

/// Ends it; of one that died already, what is left of it is removed.
///
/// # Errors
/// There is no session.
pub async fn stop(context: &Context, args: SteerArgs) -> CommandResult {
    let paths = context.paths()?;
    let found = record::of_vm(&paths, &args.vm);
    if !found.is_empty() && found.iter().all(|one| !one.alive) {
        found.iter().for_each(|one| one.place.forget());
        return Ok(0);
    }
    let place = record::the_one(&paths, &args.vm)?.place;
    control::ask(&place, &Ask::Stop).await?;
    // Its last batch is over when its lock is free.
    for _ in 0..200 {
        if !place.is_alive() {
            return Ok(0);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(CliError::new(banger_proto::failure::Kind::Failed, "the session does not end")
        .hint("See what it is doing with `banger vm workspace status`."))
}

async fn told(context: &Context, vm: &str, ask: &Ask) -> CommandResult {
    let found = record::the_one(&context.paths()?, vm)?;
    control::ask(&found.place, ask).await?;
    Ok(0)
}
