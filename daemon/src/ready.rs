//! Tells whoever started the daemon how the start went: one line of JSON on an inherited descriptor.
//!
//! `{"ready":true,"socket":"…"}` or `{"failure":{"kind":"…","chain":[…],"hints":[…]}}`. The descriptor is
//! closed afterwards, and is never inherited by a VMM.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;

use banger_proto::failure::Failure;
use rustix::io::FdFlags;

/// Where the result of the start is written to; writes nothing if nobody asked.
#[derive(Debug, Default)]
pub struct Ready {
    file: Option<File>,
}

impl Ready {
    /// Takes over the descriptor named on the command line. 0, 1 and 2 are refused, as is one that is not open.
    pub fn take(descriptor: Option<i32>) -> Result<Self, String> {
        let Some(descriptor) = descriptor else { return Ok(Self::default()) };
        if descriptor < 3 {
            return Err(format!("--ready-fd {descriptor} is not usable: it must be 3 or more"));
        }
        // SAFETY: only asked for its flags; an unused number gives EBADF, which is handled.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)
            .map_err(|error| format!("--ready-fd {descriptor} is not usable: {error}"))?;
        // SAFETY: it is open (just asked), this runs once at the start of main before anything else opens
        // descriptors, and the number was given to us to own.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { file: Some(owned.into()) })
    }

    /// The daemon serves on `socket`.
    pub fn announce(&mut self, socket: &Path) {
        self.write(&serde_json::json!({ "ready": true, "socket": socket.to_string_lossy() }));
    }

    /// The daemon does not serve.
    pub fn announce_failure(&mut self, failure: &Failure) {
        self.write(&serde_json::json!({
            "failure": { "kind": failure.kind.name(), "chain": failure.chain, "hints": failure.hints }
        }));
    }

    fn write(&mut self, line: &serde_json::Value) {
        let Some(mut file) = self.file.take() else { return };
        // One write: a pipe keeps it whole. Whoever asked may be gone; that is no reason not to serve.
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            tracing::warn!("nobody reads the ready descriptor: {error}");
        }
    }
}
