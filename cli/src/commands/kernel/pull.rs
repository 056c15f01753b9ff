//! `banger kernel pull`.

use banger_proto::v1::{GetKernelRequest, PullKernelRequest};
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::kernel::KernelView;

/// Fetch a kernel
///
///     banger kernel pull generic-6.12
///     banger kernel pull microvm-6.12      compiled here, which takes some minutes; boots in half the time
///
/// Next: `banger vm run --kernel-ref generic-6.12`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PullArgs {
    /// Name in the catalog, see `banger kernel list --available`
    #[arg(value_name = "KERNEL", add = crate::completer::kernels())]
    pub kernel: String,
    /// Make it anew even if it is here
    #[arg(long)]
    pub refresh: bool,
}

/// Runs it.
///
/// # Errors
/// The operation's failure.
pub async fn run(context: &Context, args: PullArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    context.notice_root();
    let work = async {
        let client = context.client().await?;
        let request = PullKernelRequest { name: args.kernel.clone(), refresh: args.refresh };
        let mut kernels = client.kernels();
        follow(kernels.pull(request), Reporting::final_object(&context.ui), &mut Seen::default()).await?;
        if context.ui.is_json() {
            let request = GetKernelRequest { name: args.kernel.clone() };
            let kernel = client.kernels().get(request).await.or_fail()?.into_inner();
            context.ui.json(&KernelView::from(&kernel))?;
        }
        context.ui.status(&format!("pulled {}", args.kernel));
        Ok(0)
    };
    interrupts.guard(&format!("pulling the kernel {}", args.kernel), work).await
}
