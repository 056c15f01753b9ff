//! Asks the host's resolver on behalf of a guest, and takes only an answer to exactly that question.
//!
//! Every query goes from a port and with an id of its own, so that somebody on the way can hardly guess both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// For one resolver; a stub resolver's own patience is 5 s.
const PATIENCE: Duration = Duration::from_secs(4);
/// systemd-resolved on this host.
const STUB: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53);
const STUB_FILE: &str = "/run/systemd/resolve/stub-resolv.conf";
/// How many of the host's resolvers are tried.
const RESOLVERS_LIMIT: usize = 2;

/// How a guest asked, and how its question goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// For long answers.
    Tcp,
}

/// Where questions of guests go.
pub type Upstream = std::sync::Arc<dyn Fn() -> Vec<SocketAddr> + Send + Sync>;

/// The resolvers of this host as it is configured now.
pub fn host_resolver() -> Vec<SocketAddr> {
    if Path::new(STUB_FILE).exists() {
        return vec![STUB];
    }
    parse_resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn parse_resolvers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    addresses.take(RESOLVERS_LIMIT).map(|address| SocketAddr::new(address, 53)).collect()
}

/// The answer of the first resolver that gives one, with the id of the query; nothing if none does.
pub async fn ask(query: &Message, transport: Transport, resolvers: &[SocketAddr]) -> Option<Vec<u8>> {
    for resolver in resolvers {
        let asked = tokio::time::timeout(PATIENCE, exchange(query, transport, *resolver)).await;
        match asked {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%resolver, "the resolver gave no answer: {error}"),
            Err(_) => tracing::debug!(%resolver, "the resolver did not answer in time"),
        }
    }
    None
}

async fn exchange(query: &Message, transport: Transport, resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let mut sent = query.clone();
    sent.set_id(random_id());
    let bytes = sent.to_vec().map_err(io::Error::other)?;
    let mut answer = match transport {
        Transport::Udp => exchange_datagrams(&bytes, &sent, resolver).await?,
        Transport::Tcp => exchange_streams(&bytes, &sent, resolver).await?,
    };
    answer[..2].copy_from_slice(&query.id().to_be_bytes());
    Ok(answer)
}

async fn exchange_datagrams(bytes: &[u8], sent: &Message, resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if resolver.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Only the resolver's datagrams arrive.
    socket.connect(resolver).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // One that is no answer to this question is somebody's guess; the real one may still come.
        if answers(&buffer[..length], sent) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn exchange_streams(bytes: &[u8], sent: &Message, resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, sent) { Ok(answer) } else { Err(io::Error::other("the answer is to another question")) }
}

fn answers(bytes: &[u8], sent: &Message) -> bool {
    Message::from_vec(bytes).is_ok_and(|answer| {
        answer.id() == sent.id() && answer.message_type() == MessageType::Response && answer.queries() == sent.queries()
    })
}

fn random_id() -> u16 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    u16::from_be_bytes([bytes[0], bytes[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_from_their_file() {
        let text = "# x\nnameserver 10.0.0.1\noptions edns0\nnameserver  fe80::1\nnameserver 10.0.0.3\nnameserver x\n";
        let found: Vec<String> = parse_resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[fe80::1]:53"]);
        assert!(parse_resolvers("").is_empty());
    }
}
