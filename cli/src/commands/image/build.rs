//! `banger image build`.

use std::path::PathBuf;

use banger_proto::failure::Kind;
use banger_proto::v1::BuildImageRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::image::ImageView;

/// Make an image from a recipe
///
///     banger image build tools.toml
///
/// The recipe:
///
///     name = "tools"
///     [debian]
///     suite = "bookworm"
///     packages = ["systemd-sysv", "openssh-server", "git"]
///     commands = ["useradd --create-home me"]
///     [[debian.file]]
///     path = "/etc/motd"
///     content = "hello"
///
/// An older image of that name is replaced.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct BuildArgs {
    /// The recipe, a TOML file
    #[arg(value_name = "RECIPE")]
    pub recipe: PathBuf,
}

/// Runs it.
///
/// # Errors
/// The operation's failure.
pub async fn run(context: &Context, args: BuildArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    context.notice_root();
    let described = args.recipe.display().to_string();
    let work = async {
        let recipe = std::fs::read_to_string(&args.recipe).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
            CliError::new(kind, format!("cannot read the recipe {described}"))
                .map(|failure| failure.caused_by(error.to_string()))
        })?;
        let client = context.client().await?;
        let request = BuildImageRequest { recipe, described: described.clone() };
        let mut seen = Seen::default();
        follow(client.images().build(request), Reporting::final_object(&context.ui), &mut seen).await?;
        let image = super::pull::find(&client, &seen.subject_id).await?;
        if context.ui.is_json() {
            context.ui.json(&ImageView::from(&image))?;
        }
        context.ui.status(&format!("built {}", image.name));
        Ok(0)
    };
    interrupts.guard(&format!("building the image of {described}"), work).await
}
