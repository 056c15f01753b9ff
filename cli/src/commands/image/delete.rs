//! `banger image delete`.

use banger_proto::v1::DeleteImageRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::image::ImageView;

/// Delete an image no VM uses
///
///     banger image delete debian-bookworm
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DeleteArgs {
    /// Name of the image
    #[arg(value_name = "IMAGE", add = crate::completer::images())]
    pub image: String,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: DeleteArgs) -> CommandResult {
    let client = context.client().await?;
    let image = client.images().delete(DeleteImageRequest { name: args.image }).await.or_fail()?.into_inner();
    if context.ui.is_json() {
        context.ui.json(&ImageView::from(&image))?;
    }
    context.ui.status(&format!("deleted {}", image.name));
    Ok(0)
}
