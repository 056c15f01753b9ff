//! `banger image pull`.

use banger_proto::v1::{GetImageRequest, PullImageRequest};
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::image::ImageView;

/// Build or download an image
///
///     banger image pull debian-bookworm
///
/// Joins a build of the same image that is under way. Next: `banger vm run --image debian-bookworm`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PullArgs {
    /// Name in the catalog, see `banger image list --available`
    #[arg(value_name = "IMAGE", add = crate::completer::images())]
    pub image: String,
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
        let request = PullImageRequest { name: args.image.clone(), refresh: args.refresh };
        let mut images = client.images();
        follow(images.pull(request), Reporting::final_object(&context.ui), &mut Seen::default()).await?;
        if context.ui.is_json() {
            let image = client.images().get(GetImageRequest { name: args.image.clone() }).await.or_fail()?.into_inner();
            context.ui.json(&ImageView::from(&image))?;
        }
        context.ui.status(&format!("pulled {}", args.image));
        Ok(0)
    };
    interrupts.guard(&format!("pulling the image {}", args.image), work).await
}
