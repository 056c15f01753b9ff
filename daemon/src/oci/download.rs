//! One blob from the network into the cache: goes on where it stopped, compared with its digest as it comes.
//!
//! A broken connection is tried again with the bytes that are there; an answer that says no is not.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use banger_proto::v1::ProgressUnit;
use futures::StreamExt as _;
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::{Client, Reference};
use sha2::{Digest as _, Sha256};

use super::cache::{BlobCache, CacheError};
use super::digest::Digest;
use super::manifest::Blob;
use super::registry::{PullError, failed};
use crate::reporter::Reporter;

/// Attempts in a row that bring nothing new.
const FRUITLESS_ATTEMPTS: u32 = 5;
const MOST_ATTEMPTS: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const REPORT_EVERY: u64 = 4 << 20;

/// Whom to tell how far it is.
pub(super) struct Download {
    pub reporter: Reporter,
    /// Bytes of all layers.
    pub total: u64,
}

/// The blobs of one image in one registry.
pub(super) struct Downloads {
    client: Client,
    reference: Reference,
    host: String,
    cache: BlobCache,
    to: Download,
    done: AtomicU64,
}

/// The beginning of a blob, with the hash of it.
struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    length: u64,
}

enum Attempt {
    /// Trying again may help.
    Broken(io::Error),
    Failed(PullError),
}

impl Downloads {
    pub fn new(client: Client, reference: Reference, host: String, cache: BlobCache, to: Download) -> Self {
        Self { client, reference, host, cache, to, done: AtomicU64::new(0) }
    }

    /// The file with the blob's content, counted as progress.
    pub async fn fetch(&self, blob: &Blob) -> Result<PathBuf, PullError> {
        let path = self.fetch_quietly(blob).await?;
        self.report();
        Ok(path)
    }

    /// The file with the blob's content.
    pub async fn fetch_quietly(&self, blob: &Blob) -> Result<PathBuf, PullError> {
        let cancelled = self.to.reporter.cancellation().clone();
        tokio::select! {
            path = self.ensure(blob) => path,
            () = cancelled.cancelled() => Err(PullError::Cancelled),
        }
    }

    async fn ensure(&self, blob: &Blob) -> Result<PathBuf, PullError> {
        let _turn = self.cache.turn(&blob.digest).await;
        if let Some(path) = self.cache.find(blob) {
            self.done.fetch_add(blob.size, Ordering::Relaxed);
            return Ok(path);
        }
        let mut part = Part::open(self.cache.part(&blob.digest)?).await?;
        self.done.fetch_add(part.length, Ordering::Relaxed);
        let (mut fruitless, mut pause) = (0, FIRST_PAUSE);
        for _ in 0..MOST_ATTEMPTS {
            let before = part.length;
            match self.attempt(blob, &mut part).await {
                Ok(()) => return self.finish(blob, part),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Broken(source)) => {
                    (fruitless, pause) =
                        if part.length > before { (0, FIRST_PAUSE) } else { (fruitless + 1, pause * 2) };
                    if fruitless >= FRUITLESS_ATTEMPTS {
                        return Err(self.interrupted(blob, &part, source));
                    }
                    tracing::info!(digest = %blob.digest, at = part.length, error = %source, "a download goes on");
                    tokio::time::sleep(pause).await;
                }
            }
        }
        Err(self.interrupted(blob, &part, io::Error::other("the connection broke too often")))
    }

    fn interrupted(&self, blob: &Blob, part: &Part, source: io::Error) -> PullError {
        PullError::Interrupted { digest: blob.digest.clone(), done: part.length, size: blob.size, source }
    }

    async fn attempt(&self, blob: &Blob, part: &mut Part) -> Result<(), Attempt> {
        if part.length >= blob.size {
            return Ok(());
        }
        let descriptor = OciDescriptor {
            digest: blob.digest.to_string(),
            size: i64::try_from(blob.size).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let response = self
            .client
            .pull_blob_stream_partial(&self.reference, &descriptor, part.length, None)
            .await
            .map_err(|error| self.sort_out(error))?;
        let mut stream = match response {
            BlobResponse::Partial(stream) => stream.stream,
            BlobResponse::Full(stream) => {
                // It ignores ranges: everything comes again.
                part.restart().map_err(|error| Attempt::Failed(error.into()))?;
                stream.stream
            }
        };
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(Attempt::Broken)?;
            if part.length + piece.len() as u64 > blob.size {
                part.discard();
                let found = part.length + piece.len() as u64;
                return Err(Attempt::Failed(PullError::Length {
                    digest: blob.digest.clone(),
                    wanted: blob.size,
                    found,
                }));
            }
            part.append(&piece).map_err(|error| Attempt::Failed(error.into()))?;
            self.advance(piece.len() as u64);
        }
        if part.length < blob.size {
            // It ended in good order, so there is no more.
            part.discard();
            let found = part.length;
            return Err(Attempt::Failed(PullError::Length { digest: blob.digest.clone(), wanted: blob.size, found }));
        }
        Ok(())
    }

    fn finish(&self, blob: &Blob, mut part: Part) -> Result<PathBuf, PullError> {
        let found = Digest::of_sha256(&part.hash.finalize_reset());
        if found != blob.digest || part.length != blob.size {
            part.discard();
            return Err(PullError::Digest { what: "blob", wanted: blob.digest.clone(), found });
        }
        Ok(self.cache.publish(&blob.digest)?)
    }

    fn sort_out(&self, error: OciDistributionError) -> Attempt {
        match error {
            OciDistributionError::RequestError(error) => Attempt::Broken(io::Error::other(error)),
            OciDistributionError::IoError(error) => Attempt::Broken(error),
            OciDistributionError::ServerError { code, .. } if code >= 500 || code == 429 => {
                Attempt::Broken(io::Error::other(format!("the registry answers with status {code}")))
            }
            error => Attempt::Failed(failed(&self.host, &self.reference, error)),
        }
    }

    fn advance(&self, count: u64) {
        let before = self.done.fetch_add(count, Ordering::Relaxed);
        if before / REPORT_EVERY != (before + count) / REPORT_EVERY {
            self.report();
        }
    }

    fn report(&self) {
        let done = self.done.load(Ordering::Relaxed).min(self.to.total);
        self.to.reporter.progress(done, self.to.total, ProgressUnit::Bytes, "downloading");
    }
}

impl Part {
    async fn open(path: PathBuf) -> Result<Self, CacheError> {
        // What an earlier pull left must be hashed again; that can take a second.
        tokio::task::spawn_blocking(move || Self::open_now(&path)).await.expect("hashing does not panic")
    }

    fn open_now(path: &Path) -> Result<Self, CacheError> {
        let on = |action| CacheError::on(action, path);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(on("open"))?;
        let (mut hash, mut length) = (Sha256::new(), 0u64);
        let mut piece = vec![0u8; 1 << 20];
        loop {
            let count = file.read(&mut piece).map_err(on("read"))?;
            if count == 0 {
                break;
            }
            hash.update(&piece[..count]);
            length += count as u64;
        }
        Ok(Self { path: path.to_owned(), file, hash, length })
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), CacheError> {
        self.file.write_all(piece).map_err(CacheError::on("write", &self.path))?;
        self.hash.update(piece);
        self.length += piece.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), CacheError> {
        self.file.set_len(0).map_err(CacheError::on("empty", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(CacheError::on("rewind", &self.path))?;
        self.hash = Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Nothing can be made of it any more.
    fn discard(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a useless download stays in the image cache");
        }
    }
}
