//! Names of VMs: `<name>.vm` for this host and its guests, and all other names for guests that may reach the outside.
//!
//! ```text
//! this host ── systemd-resolved ── only *.vm ──▶ gateway:5354 ─┐
//! guest ── gateway:53, redirected ─────────────▶ gateway:5354 ─┴▶ decide.rs ── answer
//!                                                                   └ forward.rs ──▶ the host's resolver
//! ```
//! A client is who its address says: the rules on the bridge let no guest send from another's address, and nobody but
//! this host and its guests is answered. [`decide`] is pure; [`serve`] and [`forward`] touch the network.

mod decide;
mod forward;
mod load;
mod serve;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::DNS_PORT;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

pub use forward::{Upstream, host_resolver};
pub use serve::run;
pub use table::Table;

/// Ports that the kernel may choose until one is free for both transports.
const CHOSEN_PORT_ATTEMPTS: u32 = 16;

/// Names will not be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the names of VMs on {address}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddrV4,
    /// The cause.
    pub source: io::Error,
}

impl Classified for BindError {
    fn kind(&self) -> Kind {
        Kind::HostNotReady
    }

    fn hints(&self) -> Vec<String> {
        vec![format!(
            "See who uses the port with `ss -lnp 'sport = :{}'`, and restart with `sudo systemctl restart bangerd`.",
            self.address.port()
        )]
    }
}

/// Bound and not yet served.
#[derive(Debug)]
pub struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

/// Binds the gateway's address, also while the bridge that has it is not there.
///
/// # Errors
/// [`BindError`].
pub fn bind_gateway(gateway: Ipv4Addr) -> Result<Sockets, BindError> {
    bind_at(SocketAddrV4::new(gateway, DNS_PORT))
}

fn bind_at(address: SocketAddrV4) -> Result<Sockets, BindError> {
    let bound = || -> io::Result<Sockets> {
        let open = |kind| {
            let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
            sockopt::set_ip_freebind(&socket, true)?;
            Ok::<_, rustix::io::Errno>(socket)
        };
        let udp = open(SocketType::DGRAM)?;
        bind(&udp, &address)?;
        let udp = std::net::UdpSocket::from(udp);
        let tcp = open(SocketType::STREAM)?;
        // Connections of a daemon that just ended must not keep the next one from serving.
        sockopt::set_socket_reuseaddr(&tcp, true)?;
        // The same port, also where the kernel chose it.
        bind(&tcp, &SocketAddrV4::new(*address.ip(), udp.local_addr()?.port()))?;
        listen(&tcp, 64)?;
        Ok(Sockets { udp, tcp: tcp.into() })
    };
    let mut attempts = CHOSEN_PORT_ATTEMPTS;
    loop {
        match bound() {
            // The kernel chose a port that is free for datagrams only.
            Err(error) if address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && attempts > 1 => {
                attempts -= 1;
            }
            bound => return bound.map_err(|source| BindError { address, source }),
        }
    }
}
