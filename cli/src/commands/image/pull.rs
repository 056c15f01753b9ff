//! `banger image pull`.

use banger_proto::size::MiB;
use banger_proto::v1::{
    ContainerOptions, GetImageRequest, Image, ImportImage, ImportImageRequest, ListImagesRequest, PullImageRequest,
    RegistryCredential, import_image_request::Part,
};
use clap::Args;

use super::credential;
use super::source::{self, Source};
use crate::client::Client;
use crate::commands::upload;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::image::ImageView;

/// Build or download an image
///
///     banger image pull debian-bookworm
///     banger image pull docker.io/library/alpine:3.20 --name alpine
///     banger image pull oci:./layout --kernel-ref generic-6.12
///     banger image pull docker-archive:app.tar --size 16G
///     banger image pull bundle:exported.tar.zst
///
/// A name of the catalog comes first, see `banger image list --available`; anything else is looked up in a
/// registry. Credentials are those of `docker login`. Joins a build of the same image that is under way.
/// Next: `banger vm run --image alpine`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PullArgs {
    /// Name in the catalog, image reference, oci:DIR[:TAG], docker-archive:FILE[:TAG] or bundle:FILE
    #[arg(value_name = "IMAGE", add = crate::completer::images())]
    pub image: String,
    /// What to call the result, instead of a name made from the reference
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Kernel that a container image boots with
    #[arg(long, value_name = "KERNEL", add = crate::completer::kernels())]
    pub kernel_ref: Option<String>,
    /// Size of a container image's root filesystem
    #[arg(long, value_name = "SIZE")]
    pub size: Option<MiB>,
    /// Platform of a container image
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
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
        let source = source::parse(&args.image)?;
        let client = context.client().await?;
        let mut seen = Seen::default();
        match source {
            Source::Named(reference) => pull(context, &client, &args, reference, &mut seen).await?,
            Source::Files { files, path, tag } => {
                let sent = upload::list(files, &path)?;
                let start = ImportImage {
                    name: args.name.clone().unwrap_or_default(),
                    files: files.into(),
                    described: source::described(&path, &tag),
                    tag,
                    refresh: args.refresh,
                    options: Some(options(&args)),
                    ..ImportImage::default()
                };
                let start = ImportImageRequest { part: Some(Part::Start(start)) };
                let wrap = |piece| ImportImageRequest { part: Some(Part::Piece(piece)) };
                let (requests, broken) = upload::requests(start, sent, wrap);
                let mut images = client.images();
                tokio::select! {
                    followed = follow(images.import(requests), Reporting::final_object(&context.ui), &mut seen) => followed?,
                    error = broken => return Err(error),
                }
            }
        }
        let image = find(&client, &seen.subject_id).await?;
        if context.ui.is_json() {
            context.ui.json(&ImageView::from(&image))?;
        }
        context.ui.status(&format!("pulled {}", image.name));
        Ok(0)
    };
    interrupts.guard(&format!("pulling the image {}", args.image), work).await
}

async fn pull(
    context: &Context,
    client: &Client,
    args: &PullArgs,
    reference: String,
    seen: &mut Seen,
) -> Result<(), CliError> {
    let request = PullImageRequest {
        name: args.name.clone().unwrap_or_default(),
        refresh: args.refresh,
        credential: credential_for(client, &reference).await?,
        reference,
        options: Some(options(args)),
    };
    follow(client.images().pull(request), Reporting::final_object(&context.ui), seen).await
}

/// A name of the catalog needs none, and no helper program is started for it.
async fn credential_for(client: &Client, reference: &str) -> Result<Option<RegistryCredential>, CliError> {
    if !reference.contains(['/', ':']) {
        let request = ListImagesRequest { include_available: true, ..ListImagesRequest::default() };
        let known = client.images().list(request).await.or_fail()?.into_inner().images;
        if known.iter().any(|image| image.name == reference) {
            return Ok(None);
        }
    }
    credential::find(reference).await
}

fn options(args: &PullArgs) -> ContainerOptions {
    ContainerOptions {
        kernel_name: args.kernel_ref.clone().unwrap_or_default(),
        size_bytes: args.size.map_or(0, |size| size.get() << 20),
        platform: args.platform.clone().unwrap_or_default(),
    }
}

/// The image that an operation made: what it is called may follow from its source.
pub(super) async fn find(client: &Client, id: &str) -> Result<Image, CliError> {
    let all = client.images().list(ListImagesRequest::default()).await.or_fail()?.into_inner().images;
    let made = all.into_iter().filter(|image| image.id == id).max_by_key(|image| image.created_unix_ms);
    match made {
        Some(image) => Ok(image),
        None => Ok(client.images().get(GetImageRequest { name: id.to_owned() }).await.or_fail()?.into_inner()),
    }
}
