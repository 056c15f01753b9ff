//! `banger image show`.

use banger_proto::v1::GetImageRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::image::{ImageView, render_details};

/// Show all about one image
///
///     banger image show debian-bookworm
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ShowArgs {
    /// Name of the image
    #[arg(value_name = "IMAGE", add = crate::completer::images())]
    pub image: String,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: ShowArgs) -> CommandResult {
    let client = context.client().await?;
    let image = client.images().get(GetImageRequest { name: args.image }).await.or_fail()?.into_inner();
    if context.ui.is_json() {
        context.ui.json(&ImageView::from(&image))?;
    } else {
        context.ui.data(&render_details(&image))?;
    }
    Ok(0)
}
