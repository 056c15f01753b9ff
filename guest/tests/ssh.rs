//! The agent's SSH server as a real process on loopback, against OpenSSH's client and russh's.
#![allow(clippy::unwrap_used)]

#[path = "ssh/server.rs"]
mod server;
#[path = "ssh/with_openssh.rs"]
mod with_openssh;
#[path = "ssh/with_russh.rs"]
mod with_russh;
