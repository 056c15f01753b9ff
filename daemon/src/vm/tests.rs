//! The life of VMs against a fake platform, with a real store: what must hold whatever goes wrong when.
#![allow(clippy::unwrap_used)]

mod cancel;
mod crash;
mod fault;
pub(crate) mod harness;
mod lifecycle;
mod settings;
mod waiting;
