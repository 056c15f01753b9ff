//! mmdebstrap outside of the daemon's sandbox, which has no room for a user namespace with subordinate ids.
//!
//! ```text
//! bangerd ─▶ banger-build ARGUMENTS ──socket: arguments, stdout, stderr──▶ banger-build --serve ─▶ mmdebstrap
//!             (in bangerd's place of it)                                   (banger-build@.service, as the owner)
//! ```
//! The client is called as mmdebstrap would be. The service runs nothing but recipes as [`super::arguments`] makes
//! them: [`check`] refuses everything else, so that a broken-into daemon gains no program outside its sandbox. When the
//! client goes, so does the build.

mod recipe;

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{Pid, Signal, kill_process};

pub use recipe::{UnknownArgument, check};

/// Where systemd listens for the service.
pub const SOCKET: &str = "/run/banger-build.sock";
/// Its status where mmdebstrap has none.
const NO_STATUS: u8 = 125;
const LONGEST_REQUEST: usize = 128 << 10;
/// Separates arguments; none can contain it.
const SEPARATOR: u8 = 0;

/// Why a build could not be asked for, or was not begun.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Nobody listens.
    #[error("cannot reach the build service at {SOCKET}; start it with `systemctl start banger-build.socket`")]
    Unreachable {
        /// The cause.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the build service went away")]
    Broken {
        /// The cause.
        source: io::Error,
    },
    /// Somebody else asks.
    #[error("refusing to build for uid {uid}")]
    Stranger {
        /// Who.
        uid: u32,
    },
    /// A message that no client of ours sends.
    #[error("refusing a request that is not one: {why}")]
    Malformed {
        /// A clause.
        why: &'static str,
    },
    /// Not a recipe of ours.
    #[error("refusing to build")]
    Refused {
        /// The argument.
        source: UnknownArgument,
    },
    /// mmdebstrap is not there.
    #[error("cannot start mmdebstrap")]
    Start {
        /// The cause.
        source: io::Error,
    },
}

/// Has the service run mmdebstrap with our own standard output and error, and gives its exit status.
///
/// # Errors
/// [`ServiceError`].
pub fn ask(arguments: &[String]) -> Result<u8, ServiceError> {
    let mut stream = UnixStream::connect(SOCKET).map_err(|source| ServiceError::Unreachable { source })?;
    ask_over(&mut stream, arguments, [io::stdout().as_fd(), io::stderr().as_fd()])
}

fn ask_over(
    stream: &mut UnixStream,
    arguments: &[String],
    outputs: [std::os::fd::BorrowedFd<'_>; 2],
) -> Result<u8, ServiceError> {
    let broken = |source| ServiceError::Broken { source };
    let text = arguments.join("\0").into_bytes();
    let length =
        u32::try_from(text.len()).map_err(|_| ServiceError::Malformed { why: "it is too long" })?.to_be_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&outputs));
    sendmsg(&*stream, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(|error| broken(error.into()))?;
    stream.write_all(&text).map_err(broken)?;
    let mut status = [NO_STATUS];
    stream.read_exact(&mut status).map_err(broken)?;
    Ok(status[0])
}

/// Serves one request of the owner's; the stream ends with the exit status. Gone with the client.
///
/// # Errors
/// [`ServiceError`], told to the client too.
pub fn serve(mut stream: UnixStream) -> Result<(), ServiceError> {
    let broken = |source| ServiceError::Broken { source };
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(|error| broken(error.into()))?.uid;
    let ours = rustix::process::getuid();
    if peer != ours && !peer.is_root() {
        return Err(ServiceError::Stranger { uid: peer.as_raw() });
    }
    let (arguments, [output, errors]) = receive(&mut stream)?;
    let status = match build(&stream, &arguments, output, &errors) {
        Ok(status) => status,
        Err(error) => {
            // Who asked may be gone; the journal has it too.
            let _ = writeln!(std::fs::File::from(errors), "{}", told(&error));
            let _ = stream.write_all(&[NO_STATUS]);
            return Err(error);
        }
    };
    stream.write_all(&[status]).map_err(broken)
}

fn told(error: &ServiceError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn receive(stream: &mut UnixStream) -> Result<(Vec<String>, [OwnedFd; 2]), ServiceError> {
    let broken = |source| ServiceError::Broken { source };
    let malformed = |why| ServiceError::Malformed { why };
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(&*stream, &mut [IoSliceMut::new(&mut length)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(|error| broken(error.into()))?;
    let outputs = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let outputs: [OwnedFd; 2] =
        outputs.collect::<Vec<_>>().try_into().map_err(|_| malformed("it brings no two outputs"))?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if received.bytes != 4 || length > LONGEST_REQUEST {
        return Err(malformed("its length is not one"));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).map_err(broken)?;
    let arguments = text.split(|&byte| byte == SEPARATOR).map(|argument| String::from_utf8(argument.to_vec()));
    let arguments = arguments.collect::<Result<_, _>>().map_err(|_| malformed("it is no text"))?;
    Ok((arguments, outputs))
}

fn build(stream: &UnixStream, arguments: &[String], output: OwnedFd, errors: &OwnedFd) -> Result<u8, ServiceError> {
    check(arguments).map_err(|source| ServiceError::Refused { source })?;
    let start = |source| ServiceError::Start { source };
    let mut child = Command::new("/usr/bin/mmdebstrap")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        // The unit's own.
        .env("TMPDIR", "/var/tmp")
        .env("HOME", "/var/tmp")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors.try_clone().map_err(start)?)
        .spawn()
        .map_err(start)?;
    let mut watched = stream.try_clone().map_err(start)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    std::thread::spawn(move || {
        // A client says nothing more: this returns when it is gone.
        let _ = watched.read(&mut [0]);
        if let Some(pid) = pid {
            // mmdebstrap unmounts what it mounted; systemd ends what is left of the unit.
            let _ = kill_process(pid, Signal::TERM);
        }
    });
    let status = child.wait().map_err(start)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(NO_STATUS))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_recipe_is_refused_and_the_client_is_told() {
        let (mut client, service) = UnixStream::pair().unwrap();
        let serving = std::thread::spawn(move || serve(service));
        let (mut reader, writer) = io::pipe().unwrap();
        let arguments = ["--mode=unshare", "--setup-hook=id", "bookworm", "-"].map(str::to_owned);
        let status = ask_over(&mut client, &arguments, [writer.as_fd(), writer.as_fd()]).unwrap();
        drop(writer);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(status, NO_STATUS);
        assert!(said.contains("--setup-hook=id"), "{said}");
        assert!(matches!(serving.join().unwrap(), Err(ServiceError::Refused { .. })));
    }

    #[test]
    fn a_request_without_outputs_or_of_a_wrong_length_is_none() {
        for bytes in [&b"\0\0\0\x01x"[..], b"\xff\xff\xff\xff", b"\0", b""] {
            let (mut client, service) = UnixStream::pair().unwrap();
            client.write_all(bytes).unwrap();
            drop(client);
            assert!(serve(service).is_err(), "{bytes:?}");
        }
    }
}
