//! One request and its answer over a SOCK_SEQPACKET socket: a packet each, and a descriptor beside the answer. Blocks.

use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_proto::failure::{Classified, Kind};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};

/// Longest answer in bytes.
const ANSWER_LIMIT: usize = 256 << 10;
/// Between two looks for a helper that restarts.
const AGAIN: Duration = Duration::from_millis(100);

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the answer.
    pub answer: Duration,
    /// For a helper that is not there.
    pub absence: Duration,
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Nobody listens.
    #[error("cannot connect to the root helper at {}", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It ended, or its answer never came for another reason.
    #[error("the root helper hung up before it answered")]
    HungUp {
        /// The cause, if the kernel gave one.
        source: Option<io::Error>,
    },
    /// It is silent.
    #[error("the root helper did not answer within {} s", after.as_secs())]
    Silent {
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer is longer than any of its.
    #[error("the root helper's answer is longer than {ANSWER_LIMIT} bytes")]
    TooLong,
}

impl Classified for ExchangeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Connect { .. } => Kind::HostNotReady,
            Self::HungUp { .. } | Self::Silent { .. } => Kind::Failed,
            Self::TooLong => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Connect { .. } => {
                vec![
                    "Start it with `sudo systemctl start bangerd-root`, or see why it does not run with \
                      `systemctl status bangerd-root`."
                        .into(),
                ]
            }
            Self::HungUp { .. } | Self::Silent { .. } => {
                vec!["Read what it did with `journalctl -u bangerd-root`, and try again.".into()]
            }
            Self::TooLong => Vec::new(),
        }
    }
}

/// Sends `request` and waits for the answer.
///
/// # Errors
/// [`ExchangeError`].
pub fn exchange(path: &Path, request: &[u8], limits: Limits) -> Result<(Vec<u8>, Option<OwnedFd>), ExchangeError> {
    let connection = connect_patiently(path, limits)?;
    let sent = retry(|| {
        sendmsg(&connection, &[IoSlice::new(request)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    });
    sent.map_err(|error| failed(error, limits))?;
    receive(&connection, limits)
}

/// A helper that restarts is back soon.
fn connect_patiently(path: &Path, limits: Limits) -> Result<OwnedFd, ExchangeError> {
    let began = Instant::now();
    loop {
        match connect_once(path, limits) {
            Ok(connection) => return Ok(connection),
            Err(Errno::NOENT | Errno::CONNREFUSED) if began.elapsed() < limits.absence => std::thread::sleep(AGAIN),
            Err(error) => return Err(ExchangeError::Connect { path: path.to_owned(), source: error.into() }),
        }
    }
}

fn connect_once(path: &Path, limits: Limits) -> rustix::io::Result<OwnedFd> {
    let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // A timeout for sending is one for connecting too.
    set_socket_timeout(&connection, Timeout::Send, Some(limits.answer))?;
    set_socket_timeout(&connection, Timeout::Recv, Some(limits.answer))?;
    connect(&connection, &SocketAddrUnix::new(path)?)?;
    Ok(connection)
}

fn receive(connection: &OwnedFd, limits: Limits) -> Result<(Vec<u8>, Option<OwnedFd>), ExchangeError> {
    let mut answer = vec![0; ANSWER_LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received =
        retry(|| recvmsg(connection, &mut [IoSliceMut::new(&mut answer)], &mut beside, RecvFlags::CMSG_CLOEXEC));
    let received = received.map_err(|error| failed(error, limits))?;
    let descriptor = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(ExchangeError::TooLong);
    }
    if received.bytes == 0 {
        return Err(ExchangeError::HungUp { source: None });
    }
    answer.truncate(received.bytes);
    Ok((answer, descriptor))
}

fn failed(error: Errno, limits: Limits) -> ExchangeError {
    match error {
        Errno::AGAIN => ExchangeError::Silent { after: limits.answer },
        error => ExchangeError::HungUp { source: Some(error.into()) },
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    rustix::io::retry_on_intr(&mut call)
}
