//! Acting on files as another user, in one thread, without becoming that user for signals or anything else.
#![allow(unsafe_code)]

use std::io;

/// Files are opened as this user and group until it is dropped. Not `Send`: it belongs to the thread that made it.
#[derive(Debug)]
pub struct FilesAs {
    previous: (u32, u32),
    _thread: std::marker::PhantomData<*const ()>,
}

impl FilesAs {
    /// From now on, in this thread.
    ///
    /// # Errors
    /// `PermissionDenied` if the kernel did not do it.
    pub fn user(uid: u32, gid: u32) -> io::Result<Self> {
        // The group first: without root's file access the kernel would refuse it.
        let previous = (set_fsuid(u32::MAX), set_fsgid(gid));
        let guard = Self { previous, _thread: std::marker::PhantomData };
        set_fsuid(uid);
        // Neither call reports failure: asking for an impossible id answers with the present one.
        if (set_fsuid(u32::MAX), set_fsgid(u32::MAX)) == (uid, gid) {
            Ok(guard)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl Drop for FilesAs {
    fn drop(&mut self) {
        set_fsuid(self.previous.0);
        set_fsgid(self.previous.1);
    }
}

fn set_fsuid(uid: u32) -> u32 {
    // SAFETY: takes and gives a number, touches no memory; affects the calling thread only.
    unsafe { libc::setfsuid(uid) }.cast_unsigned()
}

fn set_fsgid(gid: u32) -> u32 {
    // SAFETY: takes and gives a number, touches no memory; affects the calling thread only.
    unsafe { libc::setfsgid(gid) }.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_may_always_act_as_oneself() {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let _guard = FilesAs::user(uid, gid).expect("no change");
    }

    #[test]
    fn a_change_that_the_kernel_refuses_is_reported() {
        if rustix::process::geteuid().is_root() {
            eprintln!("skipped: root may act as anybody");
            return;
        }
        assert!(FilesAs::user(0, 0).is_err());
    }
}
