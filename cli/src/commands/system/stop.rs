//! `banger system stop`.

use std::time::{Duration, Instant};

use banger_proto::failure::Kind;
use banger_proto::v1::ShutdownRequest;
use clap::Args;

use crate::client::connect_running;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::mode::Mode;

const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);

/// End this user's own bangerd; VMs keep running
///
///     banger system stop
///
/// Not for the installed service, which systemd keeps. Refused while an operation is under way. The next command that needs bangerd starts it again.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StopArgs {}

/// Runs it.
///
/// # Errors
/// The daemon refuses or does not end.
pub async fn run(context: &Context, _args: StopArgs) -> CommandResult {
    if let Mode::System(_) = context.mode()? {
        return Err(CliError::new(Kind::Refused, "bangerd is kept by systemd here, which would start it again")
            .hint("Stop it with `sudo systemctl stop bangerd.service`; VMs keep running."));
    }
    let Some(client) = context.running_client().await? else {
        context.ui.status("bangerd is not running");
        return Ok(0);
    };
    client.system().shutdown(ShutdownRequest {}).await.or_fail()?;
    let socket = context.paths()?.socket();
    let began = Instant::now();
    while connect_running(&socket).await?.is_some() {
        if began.elapsed() > PATIENCE {
            let message = format!("bangerd agreed to end but still runs after {} s", PATIENCE.as_secs());
            return Err(CliError::new(Kind::Failed, message).hint("See what it does with `banger system status`."));
        }
        tokio::time::sleep(STEP).await;
    }
    context.ui.status("bangerd has ended");
    Ok(0)
}
