//! bangerd-root: the only part of banger that runs as root, and only on the supported path (two systemd services).
//!
//! ```text
//! bytes ──request──▶ Operation ──policy(&Caller, &Ledger)──▶ Permit ──perform(permit, host)──▶ Receipt
//! ```
//! This build has the first three words of that sentence: [`request`] turns bytes into a validated
//! [`Operation`](request::Operation), [`caller`] says who asked, [`policy`] decides and hands out a
//! [`Permit`](permit::Permit). Nothing here performs one yet, so the program refuses to start.
//!
//! Never here: HTTP or gRPC, a path, interface name, pid or argv taken from a request, a shell, a file of the
//! user's. The suite checks the dependency tree.

pub mod caller;
pub mod ledger;
pub mod permit;
pub mod policy;
pub mod request;
