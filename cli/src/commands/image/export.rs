//! `banger image export`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use banger_proto::failure::Kind;
use banger_proto::v1::ExportImageRequest;
use clap::Args;

use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;

/// Write an image to a file
///
///     banger image export debian-bookworm debian.tar.zst
///
/// Elsewhere: `banger image pull bundle:debian.tar.zst`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ExportArgs {
    /// Name of the image
    #[arg(value_name = "IMAGE", add = crate::completer::images())]
    pub image: String,
    /// The file to make
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure, or that the file cannot be written.
pub async fn run(context: &Context, args: ExportArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let work = async {
        let client = context.client().await?;
        let request = ExportImageRequest { name: args.image.clone() };
        let mut pieces = client.images().export(request).await.or_fail()?.into_inner();
        let failed = |error: std::io::Error| {
            CliError::new(Kind::Failed, format!("cannot write {}", args.file.display()))
                .map(|failure| failure.caused_by(error.to_string()))
        };
        if args.file.exists() {
            return Err(CliError::new(Kind::Conflict, format!("{} exists already", args.file.display()))
                .hint("Choose another file, or remove it with `rm`."));
        }
        // Beside it until it is whole.
        let directory = args.file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        while let Some(piece) = pieces.message().await.or_fail()? {
            file.write_all(&piece.data).map_err(failed)?;
        }
        make_readable(file.as_file()).map_err(failed)?;
        file.persist_noclobber(&args.file).map_err(|error| failed(error.error))?;
        context.ui.status(&format!("exported {} to {}", args.image, args.file.display()));
        Ok(0)
    };
    interrupts.guard(&format!("exporting the image {}", args.image), work).await
}

/// Temporary files are private; an export is as public as any file the user makes.
fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    file.set_permissions(std::fs::Permissions::from_mode(0o666 & !mask.bits()))
}
