//! The one place that speaks SSH: a pinned host key, one identity, many channels on one connection.
//!
//! Nothing is trusted on first use and no user configuration, agent or known_hosts file is read: the caller
//! says which key the server must have. Retrying is the caller's business. [`connection`] makes and closes
//! connections, [`session`] is one command or shell on it, [`identity`] makes our own key.

pub mod connection;
pub mod identity;
pub mod session;

pub use connection::{ConnectError, Connection, SshTarget};
pub use identity::{IdentityError, ensure_identity};
pub use session::{ExitStatus, Pty, SessionError, SessionEvent, SessionReader, SessionSignal, SessionWriter};
