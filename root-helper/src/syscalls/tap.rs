//! Tap devices: made persistent, owned by one user, in the form Firecracker opens them.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{IntegerSetter, Opcode, Updater, ioctl};

/// `struct ifreq`, as far as TUNSETIFF reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

// _IOW('T', n, int): the kernel's header says int, and takes the struct.
const TUNSETIFF: Opcode = 0x4004_54ca;
const TUNSETPERSIST: Opcode = 0x4004_54cb;
const TUNSETOWNER: Opcode = 0x4004_54cc;

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// Makes a persistent tap that only `owner` can open; one of that name that exists is taken as it is.
///
/// # Errors
/// The call that failed; `InvalidInput` for a name of more than 15 bytes.
pub fn create(name: &str, owner: u32) -> io::Result<()> {
    let mut request = InterfaceRequest { name: [0; 16], flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, rest: [0; 22] };
    if name.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let device: OwnedFd = open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq` of 40 bytes, which `InterfaceRequest` is, and any bytes are
    // a valid value of it.
    unsafe { ioctl(&device, Updater::<TUNSETIFF, InterfaceRequest>::new(&mut request)) }?;
    // SAFETY: TUNSETOWNER takes its argument by value and touches no memory of ours.
    unsafe { ioctl(&device, IntegerSetter::<TUNSETOWNER>::new_usize(owner as usize)) }?;
    // SAFETY: TUNSETPERSIST takes its argument by value and touches no memory of ours.
    unsafe { ioctl(&device, IntegerSetter::<TUNSETPERSIST>::new_usize(1)) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_kernels_layout() {
        assert_eq!(size_of::<InterfaceRequest>(), 40);
        assert_eq!(std::mem::offset_of!(InterfaceRequest, flags), 16);
    }

    #[test]
    fn a_name_without_room_for_its_end_is_refused() {
        assert_eq!(create("0123456789abcdef", 0).map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
    }
}
