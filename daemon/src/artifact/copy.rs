//! A file of the store from another file: its blocks shared where the filesystem can, else copied without holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;

const PIECE: usize = 1 << 20;

/// Whether `to` now shares every block with `from`; `false` where this filesystem or this pair of files cannot.
///
/// # Errors
/// If the disk is full or broken.
pub(crate) fn reflink(from: &File, to: &File) -> io::Result<bool> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(error.into()),
        Err(_) => Ok(false),
    }
}

/// Copies what is stored of `from`; `at` hears how far it is and may stop it.
///
/// # Errors
/// Of reading, of writing, or of `at`.
pub(crate) fn copy(from: &File, to: &File, mut at: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut piece = vec![0u8; PIECE];
    let mut position = 0;
    while position < size {
        // Filesystems that know no holes say that everything is data.
        position = match seek(from, SeekFrom::Data(position)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(_) => position,
        };
        let end = match seek(from, SeekFrom::Hole(position)) {
            Ok(hole) => hole.min(size),
            Err(_) => size,
        };
        while position < end {
            at(position)?;
            let wanted = PIECE.min(usize::try_from(end - position).unwrap_or(PIECE));
            let count = from.read_at(&mut piece[..wanted], position)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if piece[..count].iter().any(|byte| *byte != 0) {
                to.write_all_at(&piece[..count], position)?;
            }
            position += count as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn content_and_size_arrive_and_holes_stay_holes() {
        let from = tempfile::tempfile().unwrap();
        from.set_len(64 << 20).unwrap();
        from.write_all_at(b"begin", 3).unwrap();
        from.write_all_at(&[9; 3000], 40 << 20).unwrap();
        let to = tempfile::tempfile().unwrap();
        copy(&from, &to, |_| Ok(())).unwrap();
        let mut there = vec![0; 64 << 20];
        to.read_exact_at(&mut there, 0).unwrap();
        assert_eq!(&there[3..8], b"begin");
        assert!(there[40 << 20..][..3000].iter().all(|byte| *byte == 9));
        assert_eq!(there.iter().filter(|byte| **byte != 0).count(), 3005);
        assert!(std::os::unix::fs::MetadataExt::blocks(&to.metadata().unwrap()) * 512 < 4 << 20);
        assert!(copy(&from, &to, |_| Err(io::Error::other("stop"))).is_err());
    }
}
