//! Puts banger on this host for one owner, and takes it away again. Root's part of the command line.
//!
//! ```text
//! check ──▶ plan: what lies where ──▶ manifest ──▶ directories, programs, units, install.toml ──▶ services ──▶ verify
//!             (nothing changed yet)   (ahead)      └────────── each step remembers its undo ───────────┘
//! ```
//! [`check`] looks at the host and refuses; [`layout`] says what is to lie where; [`place`] puts files there and can
//! undo it; [`manifest`] remembers what was created, so that [`removal`] removes exactly that; [`services`] talks to
//! systemd; [`observe`] is what `system status` tells. Nothing here writes into the owner's home, follows a link, or
//! stops a VM on the way to a newer version.

pub mod account;
pub mod check;
pub mod host;
pub mod layout;
pub mod manifest;
pub mod observe;
pub mod perform;
pub mod place;
pub mod program;
pub mod removal;
pub mod services;
pub mod vms;

use banger_proto::failure::Kind;

use crate::error::CliError;

/// Refuses whoever is not root, before anything is looked at.
///
/// # Errors
/// [`Kind::Refused`] with the command to type instead.
pub fn require_root(words: &str) -> Result<(), CliError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(CliError::new(Kind::Refused, format!("`banger {words}` changes this host and is for root"))
        .hint(format!("Run it as root: `sudo banger {words}`.")))
}
