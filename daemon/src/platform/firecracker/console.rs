//! Notices that the guest wrote to its console: the only thing a guest does that costs it nothing to be asked about.
//!
//! What it wrote is not read. It is a hint that it has come further, and from whoever controls the guest.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::io::unix::AsyncFd;

use crate::platform::syscalls;

/// See the module.
#[derive(Debug)]
pub struct Console {
    changes: Option<AsyncFd<OwnedFd>>,
}

impl Console {
    /// Of this file, from now on. One that cannot be watched is silent for ever.
    pub fn watch(path: &Path) -> Self {
        let changes = watch(path);
        if let Err(error) = &changes {
            tracing::debug!(path = %path.display(), "cannot watch a console: {error}");
        }
        Self { changes: changes.ok() }
    }

    /// Resolves when something was written since the last call.
    pub async fn written(&self) {
        let waited = match &self.changes {
            Some(changes) => drain(changes).await,
            None => std::future::pending().await,
        };
        if let Err(error) = waited {
            tracing::debug!("cannot read what became of a console: {error}");
            std::future::pending::<()>().await;
        }
    }
}

fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    add_watch(&changes, path, WatchFlags::MODIFY)?;
    syscalls::watch(changes)
}

/// Waits for changes and takes all there are: how many does not matter.
async fn drain(changes: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut seen = false;
    loop {
        let mut ready = changes.readable().await?;
        match rustix::io::read(changes.get_ref(), &mut [0; 1024]) {
            Ok(_) => seen = true,
            Err(rustix::io::Errno::AGAIN) => {
                ready.clear_ready();
                if seen {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn each_time_something_is_written_it_is_noticed_and_nothing_else_is() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("console.log");
        let mut file = File::create(&path).unwrap();
        let console = Console::watch(&path);
        let soon = Duration::from_secs(20);
        for text in ["one", "two"] {
            assert!(futures::FutureExt::now_or_never(console.written()).is_none());
            file.write_all(text.as_bytes()).unwrap();
            tokio::time::timeout(soon, console.written()).await.unwrap();
        }
        let missing = Console::watch(&scratch.path().join("missing"));
        assert!(futures::FutureExt::now_or_never(missing.written()).is_none());
    }
}
