//! `banger image register`.

use std::path::PathBuf;

use banger_proto::v1::{ContainerOptions, ImageFiles, ImportImage, ImportImageRequest, import_image_request::Part};
use clap::Args;

use crate::commands::upload;
use crate::context::Context;
use crate::error::CommandResult;
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::image::ImageView;

/// Take over a root filesystem that you made
///
///     banger image register --name mine --rootfs rootfs.ext4 --kernel-ref generic-6.12
///
/// The file is copied: it stays yours, and changing it later changes no image. It must be ext4 in a file of at
/// least its size.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct RegisterArgs {
    /// What to call the image
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The ext4 file
    #[arg(long, value_name = "FILE")]
    pub rootfs: PathBuf,
    /// Kernel it boots with
    #[arg(long, value_name = "KERNEL", add = crate::completer::kernels())]
    pub kernel_ref: Option<String>,
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
        let sent = upload::list(ImageFiles::Rootfs, &args.rootfs)?;
        let start = ImportImage {
            name: args.name.clone(),
            files: ImageFiles::Rootfs.into(),
            described: args.rootfs.file_name().unwrap_or_default().to_string_lossy().into_owned(),
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
