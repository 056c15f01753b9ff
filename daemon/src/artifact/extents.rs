//! How much of a file its filesystem keeps only once for several files (reflinks).
//!
//! The kernel is asked for the file's extents; nothing is read. Filesystems that share nothing say so.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// Extents asked for at a time.
const BATCH: usize = 64;
const OPCODE: Opcode = opcode::read_write::<Header>(b'f', 11);
/// No writing back first: blocks not yet placed are nobody else's.
const NO_FLAGS: u32 = 0;
const LAST: u32 = 0x1;
const SHARED: u32 = 0x2000;

/// `struct fiemap` without its extents, which the request's number does not count.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    capacity: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
#[derive(Debug)]
struct Request {
    header: Header,
    extents: [Extent; BATCH],
}

/// Bytes of the file that other files hold as well; 0 where the filesystem cannot tell.
pub(crate) fn shared_bytes(path: &Path) -> u64 {
    File::open(path).and_then(|file| sum(|start| map(&file, start))).unwrap_or(0)
}

/// Adds up the shared ones of all extents, which `map` gives from an offset on.
fn sum(mut map: impl FnMut(u64) -> io::Result<Vec<Extent>>) -> io::Result<u64> {
    let (mut start, mut total) = (0, 0);
    loop {
        let extents = map(start)?;
        let Some(last) = extents.last() else { return Ok(total) };
        let next = last.logical.saturating_add(last.length);
        if next <= start {
            return Ok(total);
        }
        total += extents.iter().filter(|extent| extent.flags & SHARED != 0).map(|extent| extent.length).sum::<u64>();
        if last.flags & LAST != 0 {
            return Ok(total);
        }
        start = next;
    }
}

fn map(file: &File, start: u64) -> io::Result<Vec<Extent>> {
    let capacity = u32::try_from(BATCH).expect("a small constant");
    let header = Header { start, length: u64::MAX - start, flags: NO_FLAGS, mapped: 0, capacity, ..Header::default() };
    let mut request = Request { header, extents: [Extent::default(); BATCH] };
    // SAFETY: the number is that of FS_IOC_FIEMAP, whose argument begins with a `Header` and goes on with as many
    // extents as `capacity` says; the kernel writes no further. Every pattern of bits is a valid `Request`.
    let updater = unsafe { Updater::<OPCODE, Request>::new(&mut request) };
    // SAFETY: as above.
    unsafe { ioctl(file, updater)? };
    let mapped = BATCH.min(request.header.mapped as usize);
    Ok(request.extents[..mapped].to_vec())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_extents_count_and_every_batch_is_asked_for() {
        let extent = |logical, flags| Extent { logical, length: 10, flags, ..Extent::default() };
        let batches = [vec![extent(0, SHARED), extent(10, 0)], vec![extent(30, SHARED | LAST)]];
        let mut asked = Vec::new();
        let total = sum(|start| {
            asked.push(start);
            Ok(batches[asked.len() - 1].clone())
        });
        assert_eq!((total.unwrap(), asked), (20, vec![0, 20]));
        assert_eq!(sum(|_| Ok(vec![extent(0, SHARED)])).unwrap(), 10, "an answer that does not advance ends it");
        assert_eq!(sum(|_| Ok(Vec::new())).unwrap(), 0);
    }

    #[test]
    fn a_file_of_its_own_shares_nothing_and_a_reflink_everything() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        std::fs::write(&one, vec![7u8; 1 << 20]).unwrap();
        File::open(&one).unwrap().sync_all().unwrap();
        assert_eq!(shared_bytes(&one), 0);
        assert_eq!(shared_bytes(&other), 0, "not there");
        let copy = File::create(&other).unwrap();
        // Only some filesystems can; where this one cannot, the first claim is all there is to see.
        if rustix::fs::ioctl_ficlone(&copy, File::open(&one).unwrap()).is_ok() {
            copy.sync_all().unwrap();
            assert_eq!(shared_bytes(&one), 1 << 20);
        }
    }
}
