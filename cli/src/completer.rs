//! Live names for shell completion. Asks a daemon that runs already and never starts one; without one, or when it
//! is slow, there are simply no candidates.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use banger_proto::install::Install;
use banger_proto::roots::Environment;
use banger_proto::v1::{ListImagesRequest, ListKernelsRequest};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use crate::client::{Client, connect_running, installed};
use crate::mode::{Mode, Wish};
use crate::paths::Paths;

const PATIENCE: Duration = Duration::from_millis(800);

/// Names of VMs.
pub fn vms() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        names(current, async |client| {
            let vms = client.list_vms().await.unwrap_or_default();
            vms.into_iter().map(|vm| vm.name).collect()
        })
    })
}

/// Names of images, those of the catalog included.
pub fn images() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        names(current, async |client| {
            let request = ListImagesRequest { include_available: true, ..ListImagesRequest::default() };
            let answer = client.images().list(request).await;
            answer
                .map(|answer| answer.into_inner().images.into_iter().map(|image| image.name).collect())
                .unwrap_or_default()
        })
    })
}

/// Names of kernels, those of the catalog included.
pub fn kernels() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        names(current, async |client| {
            let answer = client.kernels().list(ListKernelsRequest { include_available: true }).await;
            answer
                .map(|answer| answer.into_inner().kernels.into_iter().map(|kernel| kernel.name).collect())
                .unwrap_or_default()
        })
    })
}

/// Of the daemon the command would ask; the word `--rootless` on the line being completed is not seen here.
fn socket() -> Option<PathBuf> {
    let wish = Wish::parse(None, std::env::var("BANGER_MODE").ok().as_deref()).ok()?;
    match Mode::decide(wish, Install::load).ok()? {
        Mode::System(_) => Some(installed::socket()),
        Mode::Rootless => Some(Paths::resolve(&Environment::observe()).ok()?.socket()),
    }
}

fn names(current: &OsStr, ask: impl AsyncFnOnce(Client) -> Vec<String>) -> Vec<CompletionCandidate> {
    let Some(prefix) = current.to_str() else { return Vec::new() };
    let Some(socket) = socket() else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let found = runtime.block_on(async {
        let asking = async {
            match connect_running(&socket).await {
                Ok(Some(client)) => ask(client).await,
                Ok(None) | Err(_) => Vec::new(),
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_default()
    });
    found.into_iter().filter(|name| name.starts_with(prefix)).map(CompletionCandidate::new).collect()
}
