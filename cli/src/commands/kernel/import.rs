//! `banger kernel import`.

use std::path::PathBuf;

use banger_proto::v1::{GetKernelRequest, ImportKernel, ImportKernelRequest, import_kernel_request::Part};
use clap::Args;

use crate::commands::upload::{self, Sent};
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::kernel::KernelView;

/// Take over a kernel that you built
///
///     banger kernel import mine --kernel arch/x86/boot/bzImage --modules /lib/modules/6.12.1-mine
///
/// Without modules everything a VM needs must be built in: virtio over PCI, block, net, console, and ext4.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ImportArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The kernel: bzImage or vmlinux
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// Its modules, with the files that depmod makes
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,
    /// What `uname -r` says of it; taken from the name of the modules' directory
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,
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
        let named = args.modules.as_deref().and_then(std::path::Path::file_name);
        let release = args.release.clone().or_else(|| named.map(|name| name.to_string_lossy().into_owned()));
        let release = release.ok_or_else(|| {
            CliError::usage("a kernel without modules needs its release").hint("Give it with `--release`.")
        })?;
        let mut files = vec![Sent { path: args.kernel.clone(), name: "kernel".to_owned() }];
        if let Some(modules) = &args.modules {
            files.extend(upload::tree(modules, "modules")?);
        }
        let start = ImportKernel {
            name: args.name.clone(),
            release,
            described: args.kernel.file_name().unwrap_or_default().to_string_lossy().into_owned(),
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
