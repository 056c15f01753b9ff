//! Device-mapper: the five ioctls a snapshot needs.
//!
//! ```text
//! create ─▶ (no table) ─load─▶ (table waits) ─resume─▶ (active) ─remove─▶ gone
//! ```
//! [`status`] reads one line of an active device. Udev is told to keep away: what is on the device was written by a
//! guest, and nothing on the host should look into it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// A command: the header and room for one target each way.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Command {
    header: Header,
    payload: [u8; PAYLOAD],
}

const PAYLOAD: usize = 1024;
const HEADER: usize = size_of::<Header>();
/// `struct dm_target_spec`: start, length, status, next, name.
const TARGET_SPEC: usize = 40;
const TARGET_NAME: usize = 24;

const DEV_CREATE: Opcode = opcode::read_write::<Header>(0xfd, 3);
const DEV_REMOVE: Opcode = opcode::read_write::<Header>(0xfd, 4);
const DEV_SUSPEND: Opcode = opcode::read_write::<Header>(0xfd, 6);
const DEV_STATUS: Opcode = opcode::read_write::<Header>(0xfd, 7);
const TABLE_LOAD: Opcode = opcode::read_write::<Header>(0xfd, 9);
const TABLE_STATUS: Opcode = opcode::read_write::<Header>(0xfd, 12);

const DM_BUFFER_FULL: u32 = 1 << 8;
/// In the upper half of the event number: no rules of dm, subsystem, disk, others (libdevmapper.h).
const UDEV_KEEPS_AWAY: u32 = 0xf << 16;

/// Names the device, by name and uuid.
#[derive(Debug, Clone, Copy)]
pub struct DeviceName<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its uuid.
    pub uuid: &'a str,
}

/// A table of one target.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// "snapshot" …
    pub kind: &'a str,
    /// Length of the device in sectors.
    pub sectors: u64,
    /// The target's own words.
    pub parameters: &'a str,
}

/// What exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Major and minor number.
    pub device: (u32, u32),
    /// Its uuid is the one that was asked for.
    pub is_ours: bool,
}

/// The device-mapper's control node.
#[derive(Debug)]
pub struct DeviceMapper {
    control: OwnedFd,
}

impl DeviceMapper {
    /// Opens it.
    ///
    /// # Errors
    /// The call that failed.
    pub fn open() -> io::Result<Self> {
        let control = open("/dev/mapper/control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { control })
    }

    /// A device with this table, active; its major and minor number.
    ///
    /// # Errors
    /// The call that failed. A device without a table may be left then: [`remove`](Self::remove) takes it away.
    pub fn create(&self, device: DeviceName<'_>, target: Target<'_>) -> io::Result<(u32, u32)> {
        let mut command = Command::named(device.name)?;
        copy(device.uuid, &mut command.header.uuid)?;
        self.run::<DEV_CREATE>(&mut command)?;
        let mut command = Command::named(device.name)?;
        command.put_target(target)?;
        self.run::<TABLE_LOAD>(&mut command)?;
        let mut command = Command::named(device.name)?;
        command.header.event_nr = UDEV_KEEPS_AWAY;
        self.run::<DEV_SUSPEND>(&mut command)?;
        Ok(numbers(command.header.dev))
    }

    /// The device of this name, if there is one.
    ///
    /// # Errors
    /// The call that failed.
    pub fn find(&self, device: DeviceName<'_>) -> io::Result<Option<Found>> {
        let mut command = Command::named(device.name)?;
        match self.run::<DEV_STATUS>(&mut command) {
            Ok(()) => {
                let mut expected = [0; 129];
                copy(device.uuid, &mut expected)?;
                Ok(Some(Found { device: numbers(command.header.dev), is_ours: command.header.uuid == expected }))
            }
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first target's status line.
    ///
    /// # Errors
    /// The call that failed; `InvalidData` if the kernel's answer is not one line of at most a kilobyte.
    pub fn status(&self, name: &str) -> io::Result<String> {
        let mut command = Command::named(name)?;
        self.run::<TABLE_STATUS>(&mut command)?;
        command.take_status().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Removes the device. `ResourceBusy` while somebody has it open.
    ///
    /// # Errors
    /// The call that failed; that there is none is not one.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let mut command = Command::named(name)?;
        command.header.event_nr = UDEV_KEEPS_AWAY;
        match self.run::<DEV_REMOVE>(&mut command) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(()),
            outcome => outcome,
        }
    }

    fn run<const OPCODE: Opcode>(&self, command: &mut Command) -> io::Result<()> {
        // SAFETY: every opcode above takes a `struct dm_ioctl` of `data_size` bytes, which it reads and fills:
        // `Command` has exactly that size, and any bytes are a valid value of it.
        unsafe { ioctl(&self.control, Updater::<OPCODE, Command>::new(command)) }.map_err(io::Error::from)
    }
}

impl Command {
    fn named(name: &str) -> io::Result<Self> {
        let mut header = Header {
            version: [4, 0, 0],
            data_size: u32::try_from(size_of::<Self>()).expect("under two kilobytes"),
            data_start: u32::try_from(HEADER).expect("under one kilobyte"),
            target_count: 0,
            open_count: 0,
            flags: 0,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        copy(name, &mut header.name)?;
        Ok(Self { header, payload: [0; PAYLOAD] })
    }

    fn put_target(&mut self, target: Target<'_>) -> io::Result<()> {
        let end = TARGET_SPEC + target.parameters.len() + 1;
        if end > PAYLOAD {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.header.target_count = 1;
        self.payload[8..16].copy_from_slice(&target.sectors.to_ne_bytes());
        let next = u32::try_from(end.next_multiple_of(8)).expect("at most a kilobyte");
        self.payload[20..24].copy_from_slice(&next.to_ne_bytes());
        copy(target.kind, &mut self.payload[TARGET_NAME..TARGET_SPEC])?;
        self.payload[TARGET_SPEC..end - 1].copy_from_slice(target.parameters.as_bytes());
        Ok(())
    }

    fn take_status(&self) -> Option<String> {
        if self.header.flags & DM_BUFFER_FULL != 0 || self.header.target_count == 0 {
            return None;
        }
        let start = usize::try_from(self.header.data_start).ok()?.checked_sub(HEADER)? + TARGET_SPEC;
        let text = self.payload.get(start..)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        String::from_utf8(text[..end].to_vec()).ok()
    }
}

/// The text with zeros behind it, at least one.
fn copy(text: &str, into: &mut [u8]) -> io::Result<()> {
    if text.len() >= into.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    into[..text.len()].copy_from_slice(text.as_bytes());
    into[text.len()..].fill(0);
    Ok(())
}

/// The kernel's `huge_encode_dev`: 12 bits of major number in the middle of 20 of minor.
fn numbers(encoded: u64) -> (u32, u32) {
    let encoded = encoded as u32;
    ((encoded & 0x000f_ff00) >> 8, (encoded & 0xff) | ((encoded >> 12) & 0x000f_ff00))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_kernels_layout() {
        assert_eq!(HEADER, 312);
        assert_eq!(std::mem::offset_of!(Header, dev), 40);
        assert_eq!(std::mem::offset_of!(Header, name), 48);
        assert_eq!(std::mem::offset_of!(Header, uuid), 176);
        assert_eq!(size_of::<Command>(), HEADER + PAYLOAD);
        assert_eq!(DEV_CREATE, 0xc138_fd03);
    }

    #[test]
    fn a_table_is_encoded_as_the_kernel_reads_it() {
        let mut command = Command::named("fc-rootfs-1").unwrap();
        command.put_target(Target { kind: "snapshot", sectors: 2048, parameters: "7:0 7:1 P 8" }).unwrap();
        assert_eq!(command.header.target_count, 1);
        assert_eq!(&command.header.name[..12], b"fc-rootfs-1\0");
        assert_eq!(command.payload[..8], [0; 8]);
        assert_eq!(command.payload[8..16], 2048_u64.to_ne_bytes());
        // 40 bytes of header, 11 of text, one zero, rounded up.
        assert_eq!(command.payload[20..24], 56_u32.to_ne_bytes());
        assert_eq!(&command.payload[24..33], b"snapshot\0");
        assert_eq!(&command.payload[40..52], b"7:0 7:1 P 8\0");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Command::named(&"n".repeat(128)).is_err());
        let mut command = Command::named("n").unwrap();
        let long = "p".repeat(PAYLOAD);
        assert!(command.put_target(Target { kind: "snapshot", sectors: 1, parameters: &long }).is_err());
        assert!(command.put_target(Target { kind: &long, sectors: 1, parameters: "" }).is_err());
    }

    #[test]
    fn a_status_line_is_found_where_the_kernel_puts_it() {
        let mut command = Command::named("n").unwrap();
        command.header.target_count = 1;
        command.payload[40..52].copy_from_slice(b"16/2048 16\0\0");
        assert_eq!(command.take_status().as_deref(), Some("16/2048 16"));
        command.header.flags = DM_BUFFER_FULL;
        assert_eq!(command.take_status(), None);
        command.header.flags = 0;
        command.header.data_start = u32::MAX;
        assert_eq!(command.take_status(), None);
        command.header.data_start = 0;
        assert_eq!(command.take_status(), None);
    }

    #[test]
    fn device_numbers_are_decoded() {
        assert_eq!(numbers(0xfd00), (253, 0));
        assert_eq!(numbers(0xfd_00 | 5 | (1 << 20)), (253, 256 + 5));
    }
}
