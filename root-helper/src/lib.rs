//! bangerd-root: the only part of banger that runs as root, and only on the supported path (two systemd services).
//!
//! ```text
//! bytes ──request──▶ Operation ──policy(&Caller, &Ledger)──▶ Permit ──operations(permit, host)──▶ Receipt
//! ```
//! [`request`] turns bytes into a validated [`Operation`](request::Operation), [`caller`] says who asked, [`policy`]
//! decides and hands out a [`Permit`](permit::Permit), [`operations`] uses it up. The [`ledger`] knows what exists;
//! [`host`] is all that can be done. [`serve`] is the service, [`run_vm`] the program of a VM's own unit,
//! [`teardown_all`] the way out.
//!
//! Never here: HTTP or gRPC, a path, interface name, pid or argv taken from a request, a shell. The suite checks the
//! dependency tree. Why root does each of these: docs/decisions/0005-what-only-root-can-do.md.

pub mod audit;
pub mod caller;
pub mod error;
pub mod host;
pub mod kernel_names;
pub mod ledger;
pub mod operations;
pub mod permit;
pub mod policy;
pub mod receipt;
pub mod request;
pub mod run_vm;
pub mod serve;
mod syscalls;
pub mod teardown_all;
pub mod world;
