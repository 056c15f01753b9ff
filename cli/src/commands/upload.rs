//! Files of this machine on their way to the daemon: read here, because the daemon may not see them.
//!
//! Blocks of zeros are not sent. If reading fails the request never ends in good order, so the daemon cannot
//! take half of the files for all of them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use banger_proto::failure::Kind;
use banger_proto::v1::{FilePiece, ImageFiles};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use crate::error::CliError;

const PIECE: usize = 1 << 20;
const PIECES_AHEAD: usize = 8;

/// A file here, and what the daemon calls it.
#[derive(Debug)]
pub struct Sent {
    /// Where it is.
    pub path: PathBuf,
    /// Relative, of plain names.
    pub name: String,
}

/// Every regular file below `directory`, called `prefix/…`; links are left out.
///
/// # Errors
/// If it cannot be listed.
pub fn tree(directory: &Path, prefix: &str) -> Result<Vec<Sent>, CliError> {
    let failed = |error: std::io::Error| {
        CliError::new(Kind::NotFound, format!("cannot list {directory:?}")).map(|it| it.caused_by(error.to_string()))
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        if kind.is_dir() {
            all.extend(tree(&entry.path(), &name)?);
        } else if kind.is_file() {
            all.push(Sent { path: entry.path(), name });
        }
    }
    Ok(all)
}

/// Everything that makes up the image at `path`.
///
/// # Errors
/// If it cannot be listed.
pub fn list(files: ImageFiles, path: &Path) -> Result<Vec<Sent>, CliError> {
    let alone = match files {
        ImageFiles::DockerArchive => Some("archive.tar"),
        ImageFiles::Rootfs => Some("rootfs.ext4"),
        ImageFiles::Bundle => Some("bundle"),
        ImageFiles::RootfsInPlace => return Ok(Vec::new()),
        ImageFiles::OciLayout | ImageFiles::Unspecified => None,
    };
    if let Some(name) = alone {
        return Ok(vec![Sent { path: path.to_owned(), name: name.to_owned() }]);
    }
    let blobs = path.join("blobs/sha256");
    let mut all = vec![Sent { path: path.join("index.json"), name: "index.json".to_owned() }];
    let unreadable = |error: std::io::Error| {
        CliError::new(Kind::NotFound, format!("{path:?} is no image layout")).map(|it| it.caused_by(error.to_string()))
    };
    for entry in std::fs::read_dir(&blobs).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if let Some(name) = entry.file_name().to_str() {
            all.push(Sent { path: entry.path(), name: format!("blobs/sha256/{name}") });
        }
    }
    Ok(all)
}

/// The requests, and what ends with an error if reading does; without one it never ends.
pub fn requests<R: Send + 'static>(
    start: R,
    files: Vec<Sent>,
    wrap: fn(FilePiece) -> R,
) -> (ReceiverStream<R>, impl Future<Output = CliError>) {
    let (sender, receiver) = channel(PIECES_AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        if sender.blocking_send(start).is_err() {
            return None;
        }
        let failed = files.iter().find_map(|file| send(file, &sender, wrap).err());
        // The sender stays open beside the error: see above.
        failed.map(|error| (error, sender))
    });
    let failure = async move {
        match reading.await {
            Ok(Some((error, _open))) => error,
            _ => std::future::pending().await,
        }
    };
    (ReceiverStream::new(receiver), failure)
}

fn send<R>(file: &Sent, to: &Sender<R>, wrap: fn(FilePiece) -> R) -> Result<(), CliError> {
    let failed = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
        CliError::new(kind, format!("cannot read {:?}", file.path)).map(|it| it.caused_by(error.to_string()))
    };
    let mut opened = File::open(&file.path).map_err(failed)?;
    let size = opened.metadata().map_err(failed)?.len();
    let mut offset = 0;
    loop {
        let mut data = Vec::with_capacity(PIECE);
        (&mut opened).take(PIECE as u64).read_to_end(&mut data).map_err(failed)?;
        let count = data.len() as u64;
        let is_hole = data.iter().all(|byte| *byte == 0);
        if offset == 0 || !is_hole {
            let piece = FilePiece { path: file.name.clone(), size, offset, data };
            // A daemon that does not listen any more says itself why.
            if to.blocking_send(wrap(piece)).is_err() {
                return Ok(());
            }
        }
        offset += count;
        if count < PIECE as u64 {
            return Ok(());
        }
    }
}
