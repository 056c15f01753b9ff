//! `banger vm logs`.

use banger_proto::v1::LogsRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::ui::Channel;
use crate::ui::style::escape_stream;

/// Print the console of a VM
///
///     banger vm logs box
///     banger vm logs -f box
///
/// What kernel and init say: the place to look when a VM does not come up. On a terminal, control characters of the
/// guest are shown, not obeyed; into a file or pipe the bytes go as they are.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct LogsArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Go on printing as more arrives, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: LogsArgs) -> CommandResult {
    if context.ui.is_json() {
        return Err(CliError::usage("a console log has no JSON form").hint("Leave out `--json`."));
    }
    let mut interrupts = Interrupts::install()?;
    let client = context.client().await?;
    let print = async {
        let request = LogsRequest { reference: args.vm, follow: args.follow };
        let mut stream = client.vms().logs(request).await.or_fail()?.into_inner();
        while let Some(chunk) = stream.message().await.or_fail()? {
            let written = if context.ui.data_is_terminal() {
                context.ui.bytes(Channel::Data, &escape_stream(&chunk.data))
            } else {
                context.ui.bytes(Channel::Data, &chunk.data)
            };
            written.map_err(|_| CliError::OutputClosed)?;
        }
        Ok(0)
    };
    interrupts.guard("printing the console", print).await
}
