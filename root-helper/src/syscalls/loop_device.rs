//! Loop devices: a file as a block device. Tagged, so that they are found again without trusting a number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl};

/// `struct loop_info64`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_CLR_FD: Opcode = 0x4c01;
const LOOP_GET_STATUS64: Opcode = 0x4c05;
const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LOOP_CTL_GET_FREE: Opcode = 0x4c82;

const LO_FLAGS_READ_ONLY: u32 = 1;

/// How often another program may take the free device before us.
const ATTEMPTS: u32 = 64;

/// Whether the device can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It cannot, not even by root.
    ReadOnly,
    /// It can.
    ReadWrite,
}

/// What a loop device says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backing {
    tag: [u8; 64],
    /// Device number of the file.
    pub device: u64,
    /// Inode of the file.
    pub inode: u64,
}

impl Backing {
    /// True if [`attach`] was given this tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tag == padded(tag)
    }
}

/// LOOP_CTL_GET_FREE answers with its return value, which none of rustix's patterns gives.
struct GetFree;

// SAFETY: the call takes no argument, touches no memory, and answers with a number.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::null_mut()
    }

    unsafe fn output_from_ptr(number: IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<u32> {
        u32::try_from(number).map_err(|_| Errno::INVAL)
    }
}

/// Attaches a file to a free device and says its number.
///
/// # Errors
/// The call that failed.
pub fn attach(file: BorrowedFd<'_>, tag: &str, access: Access) -> io::Result<u32> {
    let control = open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = if access == Access::ReadOnly { LO_FLAGS_READ_ONLY } else { 0 };
    let info = LoopInfo { flags, file_name: padded(tag), ..EMPTY };
    let config = LoopConfig { fd, block_size: 512, info, reserved: [0; 8] };
    for _ in 0..ATTEMPTS {
        // SAFETY: see `GetFree`.
        let number = unsafe { ioctl(&control, GetFree) }?;
        let device = open_device(number, OFlags::RDWR)?;
        // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, which `LoopConfig` is; the setter owns it for the
        // length of the call.
        match unsafe { ioctl(&device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) } {
            Ok(()) => return Ok(number),
            // Somebody else asked for a free one at the same time.
            Err(Errno::BUSY) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::BUSY.into())
}

/// What is behind a device; `None` if nothing is.
///
/// # Errors
/// The call that failed.
pub fn backing(number: u32) -> io::Result<Option<Backing>> {
    // For reading: when a descriptor for writing is closed, udev looks at the device again, whose ever it is.
    let device = match open_device(number, OFlags::RDONLY) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return Ok(None),
        // Nodes that were made but never used.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Ok(None),
        opened => opened?,
    };
    // SAFETY: LOOP_GET_STATUS64 fills a `struct loop_info64`, which `LoopInfo` is: plain numbers, valid however filled.
    match unsafe { ioctl(&device, Getter::<LOOP_GET_STATUS64, LoopInfo>::new()) } {
        Ok(info) => Ok(Some(Backing { tag: info.file_name, device: info.device, inode: info.inode })),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lets the file go.
///
/// # Errors
/// The call that failed; that nothing is attached is none.
pub fn detach(number: u32) -> io::Result<()> {
    let device = open_device(number, OFlags::RDWR)?;
    // SAFETY: LOOP_CLR_FD takes no argument and touches no memory of ours.
    match unsafe { ioctl(device.as_fd(), NoArg::<LOOP_CLR_FD>::new()) } {
        Ok(()) | Err(Errno::NXIO) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_device(number: u32, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(open(format!("/dev/loop{number}"), flags | OFlags::CLOEXEC, Mode::empty())?)
}

fn padded(tag: &str) -> [u8; 64] {
    let mut name = [0; 64];
    // The kernel ends it with a zero itself.
    let length = tag.len().min(name.len() - 1);
    name[..length].copy_from_slice(&tag.as_bytes()[..length]);
    name
}

const EMPTY: LoopInfo = LoopInfo {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structs_have_the_kernels_layout() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(std::mem::offset_of!(LoopInfo, flags), 52);
        assert_eq!(std::mem::offset_of!(LoopInfo, file_name), 56);
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(std::mem::offset_of!(LoopConfig, info), 8);
    }

    #[test]
    fn a_tag_is_found_whole_or_not_at_all() {
        let backing = Backing { tag: padded("banger-1"), device: 0, inode: 0 };
        assert!(backing.has_tag("banger-1"));
        assert!(!backing.has_tag("banger-") && !backing.has_tag("banger-10"));
    }
}
