//! Moves the user's git working tree into a guest, byte for byte, without running anything of it.
//!
//! ```text
//!  worktree ─observe─▶ Overlay ─prepare──frames over one SSH channel──▶ receiver ─▶ guest tree + .git
//!             gix       (manifest, git metadata)                        (names beneath one root)
//! ```
//!
//! The pure modules ([`path`], [`entry`], [`piece`], [`manifest`], [`digest`], [`diff`], [`blocks`], [`quote`]) know no
//! file system. Effects are below them: [`overlay`] reads the repository, [`pack`] makes the guest's objects,
//! [`ssh`] carries bytes, [`prepare`] drives one transfer, [`receiver`] applies it on the other side, [`verify`]
//! compares both sides, [`export`] brings the guest's work back, [`watch`] follows edits as they are made, [`files`]
//! brings files of the owner's home that belong to no repository.
//! Without the `host` feature only the wire format and the receiver remain; that is what the guest builds.

mod bitmap;
pub mod blocks;
pub mod diff;
pub mod digest;
pub mod dir;
pub mod entry;
pub mod frames;
pub mod manifest;
pub mod parallel;
pub mod path;
pub mod piece;
pub mod quote;
pub mod receiver;
pub mod wire;

#[cfg(feature = "host")]
pub mod export;
#[cfg(feature = "host")]
pub mod files;
#[cfg(feature = "host")]
pub mod overlay;
#[cfg(feature = "host")]
pub mod pack;
#[cfg(feature = "host")]
pub mod prepare;
#[cfg(feature = "host")]
pub mod ssh;
#[cfg(feature = "host")]
pub mod verify;
#[cfg(feature = "host")]
pub mod watch;
