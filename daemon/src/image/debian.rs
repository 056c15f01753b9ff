//! A Debian image: mmdebstrap's tar stream, hashed and inspected on its way into one ext4 file.
//!
//! The recipe chooses packages and leaves out documentation; otherwise the image is what the distribution
//! makes. Nothing is unpacked outside mmdebstrap's own scratch space and no privilege is needed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use banger_proto::v1::ProgressUnit;
use sha2::{Digest, Sha256};

use super::inspect::{Facts, Inspected};
use crate::artifact::bootstrap::{Mode, Output, Recipe};
use crate::artifact::ext4::{Ext4Error, Ext4Writer, Journal, Shape};
use crate::artifact::tarball::{self, TarballError};
use crate::catalog::ImageRecipe;
use crate::reporter::Reporter;

pub(crate) const FINISH: &str = include_str!("debian.sh");
/// Room for the guest to grow into; the file stays sparse.
const MINIMUM_BYTES: u64 = 8 << 30;
const SPARE_BYTES: u64 = 4 << 30;
const REPORT_EVERY: u64 = 16 << 20;

/// What came out of the stream.
#[derive(Debug)]
pub(super) struct Written {
    pub inspected: Inspected,
    /// SHA-256 of the tar stream.
    pub digest: String,
    pub size_bytes: u64,
}

/// Why the stream gave no filesystem.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file could not be made.
    #[error("cannot create {path}", path = path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The stream or an entry of it is at fault.
    #[error("cannot write the root filesystem")]
    Tarball {
        /// The cause.
        source: TarballError,
    },
    /// The rest of the stream could not be read.
    #[error("cannot read the end of the tar stream")]
    Drain {
        /// The cause.
        source: io::Error,
    },
    /// The filesystem could not be completed.
    #[error("cannot complete the root filesystem")]
    Finish {
        /// The cause.
        source: Ext4Error,
    },
}

pub(crate) fn bootstrap(recipe: &ImageRecipe) -> Recipe {
    // Every build is thrown away on failure, so dpkg need not sync each file.
    let mut options: Vec<OsString> = vec!["--dpkgopt=force-unsafe-io".into()];
    options.extend(recipe.exclude.iter().map(|pattern| format!("--dpkgopt=path-exclude={pattern}").into()));
    options.extend(recipe.include.iter().map(|pattern| format!("--dpkgopt=path-include={pattern}").into()));
    options.push("--aptopt=Acquire::Languages \"none\"".into());
    options.push(format!("--customize-hook={FINISH}").into());
    Recipe {
        subject: format!("the image {}", recipe.name),
        suite: recipe.suite.clone(),
        variant: "minbase",
        mode: Mode::Root,
        packages: recipe.packages.clone(),
        options,
        environment: Vec::new(),
        output: Output::Tar,
    }
}

/// Writes `stream` to a new file at `rootfs`.
///
/// # Errors
/// See [`WriteError`].
pub(super) fn write_rootfs(stream: impl Read, rootfs: &Path, reporter: &Reporter) -> Result<Written, WriteError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(rootfs)
        .map_err(|source| WriteError::Create { path: rootfs.to_owned(), source })?;
    let shape = Shape {
        uuid: *uuid::Uuid::new_v4().as_bytes(),
        label: "banger-root",
        minimum_bytes: MINIMUM_BYTES,
        spare_bytes: SPARE_BYTES,
        journal: Journal::Internal,
    };
    let mut stream = Hashing { inner: stream, hash: Sha256::new(), count: 0, reported: 0, reporter };
    let mut writer = Ext4Writer::new(file, shape);
    let mut facts = Facts::default();
    tarball::write_tarball(&mut stream, &mut writer, &mut |seen| facts.observe(seen))
        .map_err(|source| WriteError::Tarball { source })?;
    // The padding behind the last entry belongs to the digest, and unread output would break the pipe.
    io::copy(&mut stream, &mut io::sink()).map_err(|source| WriteError::Drain { source })?;
    let summary = writer.finish().map_err(|source| WriteError::Finish { source })?;
    tracing::debug!(entries = summary.entries, bytes = stream.count, "wrote a root filesystem");
    Ok(Written {
        inspected: facts.conclude(),
        digest: super::hex(&stream.hash.finalize()),
        size_bytes: summary.size_bytes,
    })
}

struct Hashing<'a, R> {
    inner: R,
    hash: Sha256,
    count: u64,
    reported: u64,
    reporter: &'a Reporter,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        if self.count - self.reported >= REPORT_EVERY {
            self.reported = self.count;
            self.reporter.progress(self.count, 0, ProgressUnit::Bytes, "writing the filesystem");
        }
        Ok(count)
    }
}
