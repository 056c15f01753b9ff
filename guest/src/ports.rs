//! Which ports the guest listens on, and who does.
//!
//! From /proc/net and /proc/*/fd only; a process that vanishes meanwhile leaves a port without a name.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use banger_proto::guest::v1::Port;

const TCP_LISTEN: u8 = 0x0a;
/// An unconnected UDP socket.
const UDP_UNCONNECTED: u8 = 0x07;

/// One line of /proc/net/{tcp,udp}[6].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Socket {
    /// Local address.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// The kernel's state number.
    pub state: u8,
    /// Remote port, 0 if there is no peer.
    pub remote_port: u16,
    /// Inode of the socket.
    pub inode: u64,
}

/// The sockets of a /proc/net table; malformed lines are skipped.
pub fn parse_sockets(table: &str) -> Vec<Socket> {
    table.lines().skip(1).filter_map(parse_socket).collect()
}

fn parse_socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = parse_endpoint(fields.get(1)?)?;
    let (_, remote_port) = parse_endpoint(fields.get(2)?)?;
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let inode = fields.get(9)?.parse().ok()?;
    Some(Socket { address, port, state, remote_port, inode })
}

/// `0100007F:1F90`: groups of four bytes in the machine's order, then the port.
fn parse_endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0u8; 16];
            for (index, group) in bytes.chunks_exact_mut(4).enumerate() {
                group.copy_from_slice(&word(index * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

/// All listening sockets, by protocol and port.
pub fn observe() -> Vec<Port> {
    let mut found: Vec<(&str, Socket)> = Vec::new();
    for (protocol, table) in [("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        let listening = |socket: &Socket| match protocol {
            "tcp" => socket.state == TCP_LISTEN,
            _ => socket.state == UDP_UNCONNECTED && socket.remote_port == 0,
        };
        found.extend(parse_sockets(&text).into_iter().filter(listening).map(|socket| (protocol, socket)));
    }
    let owners = owners(&found.iter().map(|(_, socket)| socket.inode).collect());
    let mut ports: Vec<Port> = found
        .into_iter()
        .map(|(protocol, socket)| Port {
            protocol: protocol.to_owned(),
            address: socket.address.to_string(),
            port: socket.port.into(),
            process: owners.get(&socket.inode).cloned().unwrap_or_default(),
        })
        .collect();
    ports.sort_by(|one, two| (&one.protocol, one.port, &one.address).cmp(&(&two.protocol, two.port, &two.address)));
    ports.dedup();
    ports
}

fn owners(inodes: &HashSet<u64>) -> HashMap<u64, String> {
    let mut owners = HashMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return owners };
    let numeric = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    for process in processes.flatten().filter(|entry| entry.file_name().to_str().is_some_and(numeric)) {
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for target in descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()) {
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let Some(inode) = inode.filter(|inode| inodes.contains(inode)) else { continue };
            owners.entry(inode).or_insert_with(|| {
                let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                name.trim().to_owned()
            });
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0\n   \
        1: 0F02000A:0016 0202000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 777 1 0 20 4 30 10 -1\n\
        garbage\n";

    #[test]
    fn addresses_states_and_inodes_are_read_and_garbage_is_skipped() {
        let sockets = parse_sockets(TABLE);
        assert_eq!(sockets.len(), 2);
        let expected =
            Socket { address: Ipv4Addr::LOCALHOST.into(), port: 8080, state: TCP_LISTEN, remote_port: 0, inode: 12345 };
        assert_eq!(sockets[0], expected);
        assert_eq!(sockets[1].address, IpAddr::from([10, 0, 2, 15]));
    }

    #[test]
    fn ipv6_addresses_are_groups_of_words() {
        let (address, port) = parse_endpoint("00000000000000000000000001000000:0016").expect("valid");
        assert_eq!((address, port), (Ipv6Addr::LOCALHOST.into(), 22));
        assert_eq!(parse_endpoint("0100007é:1F90"), None);
    }

    #[test]
    fn a_listener_of_this_process_is_found_with_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = u32::from(listener.local_addr().expect("bound").port());
        let found = observe().into_iter().find(|found| found.port == port && found.protocol == "tcp");
        let found = found.expect("the listener is listed");
        assert_eq!(found.address, "127.0.0.1");
        assert!(!found.process.is_empty());
    }
}
