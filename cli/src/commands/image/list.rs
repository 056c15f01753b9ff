//! `banger image list`.

use banger_proto::v1::ListImagesRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::image::{ImageListView, render_list};
use crate::view::time::now_ms;

/// List images
///
///     banger image list
///     banger image list --available
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ListArgs {
    /// Also those of the catalog that are not here yet
    #[arg(long)]
    pub available: bool,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: ListArgs) -> CommandResult {
    let client = context.client().await?;
    let mut images = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListImagesRequest { include_available: args.available, page_size: 0, page_token };
        let page = client.images().list(request).await.or_fail()?.into_inner();
        images.extend(page.images);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if context.ui.is_json() {
        context.ui.json(&ImageListView::new(&images))?;
    } else {
        context.ui.data(&render_list(&images, now_ms()))?;
    }
    Ok(0)
}
