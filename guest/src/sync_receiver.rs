//! `banger-guest sync --root PATH [--as-root]`: the guest's end of a transfer, on stdin and stdout.
//!
//! The receiver tells the host over the stream what went wrong; stderr repeats it for people who
//! run this by hand.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};

use crate::init::handover;
use crate::passwd;
use crate::syscalls::Identity;
use crate::tree::{Links, Tree};

/// Runs the receiver.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let Some((root, owner)) = parse(arguments) else {
        return complain("usage: banger-guest sync --root PATH [--as-root]");
    };
    match receive(&root, owner) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("banger-guest sync: {}", crate::init::chain(&error))),
    }
}

/// Whose the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Whoever the image's sessions are.
    User,
    /// root, whoever the sessions are: its own home.
    Root,
}

fn receive(root: &Path, owner: Owner) -> Result<(), banger_sync::receiver::ReceiverError> {
    // What cannot be given away stays root's, and the receiver says itself what it then cannot do.
    if owner == Owner::User
        && let Some(user) = handover::read().seed.map(|seed| seed.user)
        && let Err(error) = become_owner(root, &user)
    {
        let _ = writeln!(io::stderr(), "banger-guest sync: cannot give {} to {user}: {error}", root.display());
    }
    banger_sync::receiver::run_on_standard_streams(root)
}

/// The tree belongs to whom the image's sessions are, so that they can work in it. A fresh directory is given away; one
/// that is somebody else's stays so. An image whose user does not exist has trees of root: its sessions say so.
fn become_owner(root: &Path, user: &str) -> io::Result<()> {
    let Ok(account) = passwd::look_up(user) else { return Ok(()) };
    let Some(identity) = Identity::of(&account) else { return Ok(()) };
    std::fs::create_dir_all(root)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(root, flags, Mode::empty())?;
    let owner = rustix::fs::fstat(&directory)?.st_uid;
    if owner == 0 && Tree::from_directory(directory.try_clone()?, Links::Refused)?.names()?.is_empty() {
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
    } else if owner != account.uid {
        return Ok(());
    }
    // The only thread: nothing of this process runs beside the receiver.
    Ok(identity.assume()?)
}

fn parse(arguments: &[OsString]) -> Option<(PathBuf, Owner)> {
    match arguments {
        [flag, path] if flag == "--root" && !path.is_empty() => Some((path.into(), Owner::User)),
        [flag, path, owner] if flag == "--root" && !path.is_empty() && owner == "--as-root" => {
            Some((path.into(), Owner::Root))
        }
        _ => None,
    }
}

fn complain(text: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_root_is_asked_for() {
        let parse = |words: &[&str]| super::parse(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(parse(&["--root", "/root/repo"]), Some(("/root/repo".into(), Owner::User)));
        assert_eq!(parse(&["--root", "/root", "--as-root"]), Some(("/root".into(), Owner::Root)));
        for wrong in [&[][..], &["--root"], &["--root", ""], &["/root/repo"], &["--root", "a", "b"], &["--as-root"]] {
            assert_eq!(parse(wrong), None);
        }
    }
}
