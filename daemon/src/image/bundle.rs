//! A finished image as one file: tar, zstd, exactly `manifest.json` and `rootfs.ext4`.
//!
//! Holes of the filesystem are holes of the archive. Reading one believes nothing: the caller compares the
//! digest of the whole file first, then every member is checked and bounded here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{Manifest, ROOTFS};
use crate::artifact::shelf::MANIFEST;
use crate::artifact::tarball::{self, MemberKind, TarballError};

const LEVEL: i32 = 3;
const MOST_MANIFEST_BYTES: u64 = 1 << 20;
/// What the writer of filesystems can make.
const MOST_ROOTFS_BYTES: u64 = 1 << 40;
/// Bytes really stored in a root filesystem.
const MOST_CONTENT_BYTES: u64 = 64 << 30;
const PIECE: usize = 1 << 20;

/// Why a bundle cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// One of the image's files, or the bundle.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// "open", "write" …
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The bundle is no archive.
    #[error("cannot read the bundle")]
    Tarball(#[from] TarballError),
    /// Another member, twice the same, or none.
    #[error("the bundle is refused: {reason}")]
    Contents {
        /// What is wrong.
        reason: String,
    },
    /// Its manifest is none of ours.
    #[error("the bundle's manifest is malformed")]
    Manifest(#[source] serde_json::Error),
}

fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError + use<> {
    let path = path.to_owned();
    move |source| BundleError::File { action, path, source }
}

/// Writes the image described in `directory` as a bundle.
///
/// # Errors
/// If a file cannot be read or `out` not written.
pub(super) fn write(directory: &Path, rootfs: &Path, out: impl Write) -> Result<(), BundleError> {
    let failed = |source| BundleError::File { action: "write", path: PathBuf::from("the bundle"), source };
    let path = directory.join(MANIFEST);
    let manifest = std::fs::read(&path).map_err(on("open", &path))?;
    let mut manifest: Manifest = serde_json::from_slice(&manifest).map_err(BundleError::Manifest)?;
    // Elsewhere there is no such file.
    manifest.in_place = None;
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(BundleError::Manifest)?;
    let packed = zstd::Encoder::new(out, LEVEL).map_err(failed)?;
    let mut tar = tar::Builder::new(packed);
    tar.mode(tar::HeaderMode::Deterministic);
    let mut header = tar::Header::new_gnu();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    tar.append_data(&mut header, MANIFEST, manifest.as_slice()).map_err(failed)?;
    let mut file = File::open(rootfs).map_err(on("open", rootfs))?;
    tar.append_file(ROOTFS, &mut file).map_err(failed)?;
    tar.into_inner().and_then(zstd::Encoder::finish).map_err(failed)?.flush().map_err(failed)
}

/// Reads a bundle: the root filesystem goes to `directory`, the manifest is returned.
///
/// # Errors
/// See [`BundleError`]; what was written must then be thrown away.
pub(super) fn read(bundle: &Path, directory: &Path) -> Result<Manifest, BundleError> {
    let file = File::open(bundle).map_err(on("open", bundle))?;
    let unpacked = zstd::Decoder::new(file).map_err(on("read", bundle))?;
    let refused = |reason: String| BundleError::Contents { reason };
    let (mut manifest, mut rootfs) = (None, false);
    tarball::each_member(unpacked, &mut |member, content| -> Result<(), BundleError> {
        let name = String::from_utf8_lossy(&member.path).into_owned();
        if member.kind != MemberKind::File || member.absolute {
            return Err(refused(format!("{name:?} is no regular file")));
        }
        match name.as_str() {
            MANIFEST if manifest.is_none() && member.size <= MOST_MANIFEST_BYTES => {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).map_err(on("read", bundle))?;
                manifest = Some(serde_json::from_slice(&bytes).map_err(BundleError::Manifest)?);
                Ok(())
            }
            ROOTFS if !rootfs && member.size <= MOST_ROOTFS_BYTES => {
                rootfs = true;
                write_sparse(content, member.size, &directory.join(ROOTFS))
            }
            _ => Err(refused(format!("{name:?} is unexpected, comes twice or is too large"))),
        }
    })?;
    match manifest {
        Some(manifest) if rootfs => Ok(manifest),
        _ => Err(refused(format!("it lacks {MANIFEST} or {ROOTFS}"))),
    }
}

fn write_sparse(content: &mut dyn Read, size: u64, path: &Path) -> Result<(), BundleError> {
    let file = File::options().write(true).create_new(true).open(path).map_err(on("create", path))?;
    file.set_len(size).map_err(on("write", path))?;
    let mut piece = vec![0u8; PIECE];
    let (mut at, mut stored) = (0u64, 0u64);
    loop {
        let count = content.read(&mut piece).map_err(on("read", path))?;
        if count == 0 {
            break;
        }
        if piece[..count].iter().any(|byte| *byte != 0) {
            stored += count as u64;
            if stored > MOST_CONTENT_BYTES {
                return Err(BundleError::Contents {
                    reason: format!("{ROOTFS} holds more than {MOST_CONTENT_BYTES} bytes"),
                });
            }
            file.write_all_at(&piece[..count], at).map_err(on("write", path))?;
        }
        at += count as u64;
    }
    if at != size {
        return Err(BundleError::Contents { reason: format!("{ROOTFS} ends after {at} of {size} bytes") });
    }
    superblock(path)?;
    file.sync_data().map_err(on("write", path))
}

/// A root filesystem is ext4; nothing else of it is looked at.
///
/// # Errors
/// If it is not, or larger than its file.
pub(super) fn superblock(path: &Path) -> Result<u64, BundleError> {
    let file = File::open(path).map_err(on("open", path))?;
    let length = file.metadata().map_err(on("open", path))?.len();
    let mut block = [0u8; 1024];
    file.read_exact_at(&mut block, 1024).map_err(on("read", path))?;
    let number = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let extents = number(0x60) & 0x40 != 0;
    let high = if number(0x60) & 0x80 != 0 { u64::from(number(0x150)) << 32 } else { 0 };
    let bytes = (u64::from(number(4)) | high).checked_shl(10 + number(0x18).min(6)).unwrap_or(u64::MAX);
    if block[0x38..0x3A] != [0x53, 0xEF] || !extents {
        return Err(BundleError::Contents { reason: "the root filesystem is not ext4".to_owned() });
    }
    if bytes > length {
        return Err(BundleError::Contents { reason: "the root filesystem is larger than its file".to_owned() });
    }
    Ok(length)
}
