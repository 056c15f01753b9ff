//! A VM's console log as a stream. Polls: the file is written by a VMM, on any file system, a few lines a second.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use banger_proto::v1::LogChunk;
use futures::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::api::refuse;
use crate::paths::Paths;
use crate::vm::driver::{DriverHandle, Snapshot};
use crate::vm::observe::console_log;
use crate::vm::plan::vm_plan;

const LOOK_AGAIN: Duration = Duration::from_millis(200);
const CHUNK: usize = 32 << 10;

/// When the stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// When all that is there now was sent.
    EndOfFile,
    /// When the VM no longer runs and all it wrote was sent.
    Gone,
}

/// There is no log to read.
#[derive(Debug, thiserror::Error)]
enum LogsError {
    #[error("the VM {name:?} has no console log yet: it was never started")]
    NeverStarted { name: String },
    #[error("cannot read the console log {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

impl Classified for LogsError {
    fn kind(&self) -> Kind {
        match self {
            Self::NeverStarted { .. } => Kind::Conflict,
            Self::Read { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NeverStarted { name } => vec![format!("Run `banger vm start {name}` first.")],
            Self::Read { .. } => Vec::new(),
        }
    }
}

struct Reading {
    path: PathBuf,
    file: File,
    position: u64,
    until: Until,
    snapshots: watch::Receiver<Snapshot>,
    closing: CancellationToken,
    done: bool,
}

/// Opens the log and streams it.
pub(super) async fn chunks(
    handle: &DriverHandle,
    paths: &Paths,
    until: Until,
    closing: CancellationToken,
) -> Result<impl Stream<Item = Result<LogChunk, Status>> + use<>, Status> {
    let record = handle.snapshot().record;
    let path = console_log(&vm_plan(&record, paths));
    let file = open(&path, record.name.as_str()).await.map_err(|error| refuse(&error))?;
    let start = Reading { path, file, position: 0, until, snapshots: handle.watch(), closing, done: false };
    Ok(futures::stream::unfold(start, |mut reading| async move {
        if reading.done {
            return None;
        }
        match reading.next().await {
            Ok(Some(data)) => Some((Ok(LogChunk { data }), reading)),
            Ok(None) => None,
            Err(source) => {
                reading.done = true;
                let error = LogsError::Read { path: reading.path.clone(), source };
                Some((Err(refuse(&error)), reading))
            }
        }
    }))
}

async fn open(path: &Path, name: &str) -> Result<File, LogsError> {
    File::open(path).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => LogsError::NeverStarted { name: name.to_owned() },
        _ => LogsError::Read { path: path.to_owned(), source },
    })
}

impl Reading {
    async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            // Asked before the read: what was written before the VM ended is then surely seen.
            let over = match self.until {
                Until::EndOfFile => true,
                Until::Gone => self.is_gone() || self.closing.is_cancelled(),
            };
            let mut data = vec![0; CHUNK];
            let length = self.file.read(&mut data).await?;
            if length > 0 {
                self.position += length as u64;
                data.truncate(length);
                return Ok(Some(data));
            }
            if over {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            self.follow_restart().await?;
        }
    }

    fn is_gone(&self) -> bool {
        let snapshot = self.snapshots.borrow();
        snapshot.removed || !snapshot.is_alive()
    }

    /// A new start may begin the file afresh, in place or as a new file.
    async fn follow_restart(&mut self) -> std::io::Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(named) = tokio::fs::metadata(&self.path).await else { return Ok(()) };
        let opened = self.file.metadata().await?;
        if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
            self.file = File::open(&self.path).await?;
            self.position = 0;
        } else if named.len() < self.position {
            self.file.seek(SeekFrom::Start(0)).await?;
            self.position = 0;
        }
        Ok(())
    }
}
