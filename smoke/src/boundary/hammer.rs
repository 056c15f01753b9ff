//! Everything a hostile client in the owner's account can put on the wire, fast.

use std::io;

use super::Client;

/// Sends so many frames.
pub fn run(_frames: &str, _seed: &str, _vms: &[&str]) -> io::Result<String> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Opens so many connections.
pub fn flood(_connections: &str) -> io::Result<String> {
    Client::connect()?;
    Err(io::ErrorKind::Unsupported.into())
}
