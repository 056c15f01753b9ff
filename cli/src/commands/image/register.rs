//! `banger image register`.

use std::path::PathBuf;

use banger_proto::failure::Kind;
use banger_proto::v1::{
    ContainerOptions, ImageFiles, ImportImage, ImportImageRequest, OwnKernel, import_image_request::Part,
};
use clap::Args;

use crate::commands::kernel::files::KernelFiles;
use crate::commands::upload;
use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::image::ImageView;

/// Take over a root filesystem that you made
///
///     banger image register --name mine --rootfs rootfs.ext4 --kernel-ref generic-6.12
///     banger image register --name mine --rootfs rootfs.ext4 --kernel vmlinuz --modules /lib/modules/6.12.1
///     banger image register --name mine --rootfs rootfs.ext4 --kernel vmlinuz --initrd initrd.img
///     banger image register --name mine --rootfs rootfs.ext4 --in-place
///
/// The file is copied: it stays yours, and changing it later changes no image. It must be ext4 in a file of at
/// least its size. With --in-place it is used where it is and must not change until `banger image promote mine`; not in
/// an installed banger, whose VMs boot from its own store only.
///
/// A kernel of its own is stored under the image's name. Its initrd is not booted, banger's own takes its place; the
/// modules are taken from it where --modules is not given.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct RegisterArgs {
    /// What to call the image
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The ext4 file
    #[arg(long, value_name = "FILE")]
    pub rootfs: PathBuf,
    /// Use the file where it is
    #[arg(long)]
    pub in_place: bool,
    /// Kernel it boots with
    #[arg(long, value_name = "KERNEL", conflicts_with = "kernel", add = crate::completer::kernels())]
    pub kernel_ref: Option<String>,
    #[command(flatten)]
    pub own_kernel: KernelFiles,
    /// Its init; `none` if it has none, then commands work all the same
    #[arg(long, value_name = "PATH", default_value = "/sbin/init")]
    pub init: String,
    /// Its init starts an SSH server on port 22
    #[arg(long)]
    pub sshd: bool,
    /// Replace an image of that name
    #[arg(long)]
    pub refresh: bool,
}

/// Runs it.
///
/// # Errors
/// The operation's failure.
pub async fn run(context: &Context, args: RegisterArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    context.notice_root();
    let work = async {
        let client = context.client().await?;
        let (files, described) = if args.in_place {
            (ImageFiles::RootfsInPlace, absolute(&args.rootfs)?)
        } else {
            (ImageFiles::Rootfs, args.rootfs.file_name().unwrap_or_default().to_string_lossy().into_owned())
        };
        let mut sent = upload::list(files, &args.rootfs)?;
        let mut own_kernel = None;
        if let Some(kernel) = &args.own_kernel.kernel {
            own_kernel = Some(OwnKernel {
                release: args.own_kernel.release()?,
                described: kernel.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            });
            sent.extend(args.own_kernel.sent(kernel)?);
        }
        let start = ImportImage {
            name: args.name.clone(),
            files: files.into(),
            described,
            own_kernel,
            refresh: args.refresh,
            options: Some(ContainerOptions {
                kernel_name: args.kernel_ref.clone().unwrap_or_default(),
                ..ContainerOptions::default()
            }),
            init_path: if args.init == "none" { String::new() } else { args.init.clone() },
            has_sshd: args.sshd,
            ..ImportImage::default()
        };
        let start = ImportImageRequest { part: Some(Part::Start(start)) };
        let wrap = |piece| ImportImageRequest { part: Some(Part::Piece(piece)) };
        let (requests, broken) = upload::requests(start, sent, wrap);
        let (mut images, mut seen) = (client.images(), Seen::default());
        tokio::select! {
            followed = follow(images.import(requests), Reporting::final_object(&context.ui), &mut seen) => followed?,
            error = broken => return Err(error),
        }
        let image = super::pull::find(&client, &seen.subject_id).await?;
        if context.ui.is_json() {
            context.ui.json(&ImageView::from(&image))?;
        }
        context.ui.status(&format!("registered {}", image.name));
        Ok(0)
    };
    interrupts.guard(&format!("registering the image {}", args.name), work).await
}

fn absolute(path: &std::path::Path) -> Result<String, CliError> {
    let shown = path.display();
    let failed = |kind, cause: String| {
        CliError::new(kind, format!("cannot use {shown} where it is")).map(|failure| failure.caused_by(cause))
    };
    let found = std::fs::canonicalize(path).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
        failed(kind, error.to_string())
    })?;
    let text = found.into_os_string().into_string();
    text.map_err(|path| failed(Kind::Usage, format!("its path {} is not UTF-8", path.display())))
}
