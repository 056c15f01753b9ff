//! `banger image promote`.

use banger_proto::v1::{GetImageRequest, PromoteImageRequest};
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::image::ImageView;

/// Make an image that is used in place one of banger's own
///
///     banger image register --in-place --name mine --rootfs rootfs.ext4
///     banger image promote mine
///
/// The root filesystem is copied into banger's store, or shares its blocks where the filesystem can do that. Your file
/// stays, and VMs made before go on using it; you may change or delete it once they are gone.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PromoteArgs {
    /// Name of the image
    #[arg(value_name = "IMAGE", add = crate::completer::images())]
    pub image: String,
}

/// Runs it.
///
/// # Errors
/// The operation's failure.
pub async fn run(context: &Context, args: PromoteArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let work = async {
        let client = context.client().await?;
        let get = || GetImageRequest { name: args.image.clone() };
        let before = client.images().get(get()).await.or_fail()?.into_inner();
        if before.in_place {
            let request = PromoteImageRequest { name: args.image.clone() };
            let (mut images, mut seen) = (client.images(), Seen::default());
            follow(images.promote(request), Reporting::final_object(&context.ui), &mut seen).await?;
        }
        if context.ui.is_json() {
            let image = client.images().get(get()).await.or_fail()?.into_inner();
            context.ui.json(&ImageView::from(&image))?;
        }
        if before.in_place {
            context.ui.status(&format!("promoted {}", before.name));
        } else {
            context.ui.status(&format!("{} is banger's own already", before.name));
        }
        Ok(0)
    };
    interrupts.guard(&format!("promoting the image {}", args.image), work).await
}
