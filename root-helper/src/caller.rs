//! Who asked. The kernel says so (SO_PEERCRED); no byte of a request can.
//!
//! [`Caller::observe`] is the only way to have a [`Caller`] outside tests. Whether that caller may do
//! something is decided in [`policy`](crate::policy).

use std::io;
use std::os::fd::AsFd;

/// The process at the other end of the socket, as it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    uid: u32,
    pid: i32,
}

/// The kernel would not say who is at the other end.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell who connected to the helper's socket")]
pub struct UnknownCaller {
    /// The cause.
    pub source: io::Error,
}

impl Caller {
    /// Asks the kernel who connected.
    ///
    /// # Errors
    /// [`UnknownCaller`] if `socket` is not a connected unix socket.
    pub fn observe(socket: impl AsFd) -> Result<Self, UnknownCaller> {
        let credentials =
            rustix::net::sockopt::socket_peercred(socket).map_err(|source| UnknownCaller { source: source.into() })?;
        Ok(Self { uid: credentials.uid.as_raw(), pid: credentials.pid.as_raw_nonzero().get() })
    }

    /// Its user id.
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// Its process, when it connected: for the log only, another may have the number by now.
    pub fn pid(self) -> i32 {
        self.pid
    }

    #[cfg(test)]
    pub(crate) fn with_uid(uid: u32) -> Self {
        Self { uid, pid: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_the_caller() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        let caller = Caller::observe(&ours).expect("connected");
        assert_eq!(caller.uid(), rustix::process::getuid().as_raw());
    }

    #[test]
    fn what_is_not_a_socket_has_no_caller() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        assert!(Caller::observe(&file).is_err());
    }
}
