//! `banger kernel import`.

use banger_proto::v1::{GetKernelRequest, ImportKernel, ImportKernelRequest, import_kernel_request::Part};
use clap::Args;

use super::files::KernelFiles;
use crate::commands::upload;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::kernel::KernelView;

/// Take over a kernel that you built
///
///     banger kernel import mine --kernel arch/x86/boot/bzImage --modules /lib/modules/6.12.1-mine
///     banger kernel import distro --kernel /boot/vmlinuz --initrd /boot/initrd.img
///
/// Without modules everything a VM needs must be built in: virtio over PCI, block, net, console, and ext4.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ImportArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub files: KernelFiles,
    /// Replace a kernel of that name
    #[arg(long)]
    pub refresh: bool,
}

/// Runs it.
///
/// # Errors
/// The operation's failure.
pub async fn run(context: &Context, args: ImportArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    context.notice_root();
    let work = async {
        let Some(kernel) = &args.files.kernel else { return Err(CliError::usage("--kernel is missing")) };
        let release = args.files.release()?;
        let files = args.files.sent(kernel)?;
        let start = ImportKernel {
            name: args.name.clone(),
            release,
            described: kernel.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            refresh: args.refresh,
        };
        let start = ImportKernelRequest { part: Some(Part::Start(start)) };
        let wrap = |piece| ImportKernelRequest { part: Some(Part::Piece(piece)) };
        let client = context.client().await?;
        let (requests, broken) = upload::requests(start, files, wrap);
        let (mut kernels, mut seen) = (client.kernels(), Seen::default());
        tokio::select! {
            followed = follow(kernels.import(requests), Reporting::final_object(&context.ui), &mut seen) => followed?,
            error = broken => return Err(error),
        }
        if context.ui.is_json() {
            let request = GetKernelRequest { name: args.name.clone() };
            let kernel = client.kernels().get(request).await.or_fail()?.into_inner();
            context.ui.json(&KernelView::from(&kernel))?;
        }
        context.ui.status(&format!("imported {}", args.name));
        Ok(0)
    };
    interrupts.guard(&format!("importing the kernel {}", args.name), work).await
}
