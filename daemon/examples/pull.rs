//! Makes a kernel and an image in a directory, without a daemon: `pull DIRECTORY [KERNEL IMAGE] [--refresh]`.
//! For trying out recipes; progress and results go to the log on standard error.

use std::path::PathBuf;

use banger_proto::failure::{Classified, Failure};
use banger_proto::v1::operation_event::Event;
use bangerd::image::{ImageStore, Refresh};
use bangerd::kernel::KernelStore;
use bangerd::reporter::Reporter;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let refresh = if arguments.iter().any(|text| text == "--refresh") { Refresh::Always } else { Refresh::IfAbsent };
    arguments.retain(|text| !text.starts_with("--"));
    let mut arguments = arguments.into_iter();
    let directory = PathBuf::from(arguments.next().expect("usage: pull DIRECTORY [KERNEL IMAGE] [--refresh]"));
    let kernel = arguments.next().unwrap_or_else(|| "generic-6.12".to_owned());
    let image = arguments.next().unwrap_or_else(|| "debian-bookworm".to_owned());
    match pull(directory, &kernel, &image, refresh).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(kind = failure.kind.name(), hints = ?failure.hints, "{failure}");
            failure.kind.exit_code().into()
        }
    }
}

async fn pull(directory: PathBuf, kernel: &str, image: &str, refresh: Refresh) -> Result<(), Failure> {
    let (events, mut received) = tokio::sync::mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let reporter = Reporter::new("pull".to_owned(), events, cancel.clone());
    tokio::spawn(async move {
        while let Some(event) = received.recv().await {
            if let Some(Event::Progress(progress)) = event.event {
                tracing::debug!(done = progress.done, total = progress.total, "{}", progress.message);
            }
        }
    });
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            cancel.cancel();
        }
    });
    let cache = directory.join("cache");
    let kernels = KernelStore::open(directory.join("kernels"), cache.clone()).map_err(|error| failure(&error))?;
    let images = ImageStore::open(directory.join("images"), cache).map_err(|error| failure(&error))?;
    if kernel != "none" {
        let name = kernel.parse().expect("a kernel name");
        let made = kernels.ensure(&name, refresh, &reporter).await.map_err(|error| failure(&error))?;
        tracing::info!("{made:#?}");
    }
    if image != "none" {
        let name = image.parse().expect("an image name");
        let made = images.ensure(&name, refresh, &reporter).await.map_err(|error| failure(&error))?;
        tracing::info!("{made:#?}");
    }
    Ok(())
}

fn failure<E: Classified>(error: &E) -> Failure {
    Failure::from_error(error)
}
