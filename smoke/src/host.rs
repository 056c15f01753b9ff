//! The test host: a Debian system with systemd in QEMU, with real or emulated virtualisation inside.
//!
//! [`image`] builds its disk once per recipe, [`machine`] boots a throw-away overlay of it, [`reach`] gets in by ssh,
//! [`monitor`] asks a dead one's processors.
//! The recipe itself is `smoke/host`, a few short scripts.

pub mod accelerator;
pub mod image;
pub mod machine;
pub mod monitor;
pub mod reach;
