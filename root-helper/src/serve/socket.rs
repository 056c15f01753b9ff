//! The socket: packets, not a stream, so a message is whole or not there. Only the owner (and root) can connect.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use banger_proto::install::HELPER_SOCKET;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, chmodat, chownat, unlinkat};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, listen as listen_on, sendmsg, socket_with,
};

use crate::error::{Step, StepError, step};

/// A client that says nothing for so long is gone.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// A client that does not take its answer for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Room for one answer; the largest is an inventory of a full network.
const SEND_BUFFER: usize = 256 << 10;
const BACKLOG: i32 = 32;

/// Binds it for the owner.
pub fn listen(uid: u32, gid: u32) -> Step<OwnedFd> {
    let attempt = || format!("listen on {HELPER_SOCKET}");
    let failed = |error: Errno| StepError::new(attempt(), io::Error::from(error));
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(failed)?;
    match unlinkat(CWD, HELPER_SOCKET, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    let address = SocketAddrUnix::new(HELPER_SOCKET).map_err(failed)?;
    // With our umask the socket is root's alone until it is given away.
    bind(&socket, &address).map_err(failed)?;
    chmodat(CWD, HELPER_SOCKET, Mode::RUSR | Mode::WUSR, AtFlags::empty()).map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    chownat(CWD, HELPER_SOCKET, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    listen_on(&socket, BACKLOG).map_err(failed)?;
    Ok(socket)
}

/// The next client, with its deadlines set.
pub fn accept(listener: &OwnedFd) -> Step<OwnedFd> {
    let failed = |error: Errno| StepError::new("accept a client", io::Error::from(error));
    let client = accept_with(listener, SocketFlags::CLOEXEC).map_err(failed)?;
    set_socket_timeout(&client, Timeout::Recv, Some(READ_LIMIT)).map_err(failed)?;
    set_socket_timeout(&client, Timeout::Send, Some(WRITE_LIMIT)).map_err(failed)?;
    set_socket_send_buffer_size(&client, SEND_BUFFER).map_err(failed)?;
    Ok(client)
}

/// One packet with at most one descriptor beside it.
pub fn send(client: &OwnedFd, bytes: &[u8], descriptor: Option<&OwnedFd>) -> Step<()> {
    use std::os::fd::AsFd as _;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        let is_pushed = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(is_pushed, "there is room for one");
    }
    let packet = [io::IoSlice::new(bytes)];
    sendmsg(client, &packet, &mut control, SendFlags::NOSIGNAL)
        .map(|_| ())
        .map_err(io::Error::from)
        .map_err(step("answer a client"))
}
