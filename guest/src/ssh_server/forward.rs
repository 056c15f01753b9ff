//! direct-tcpip: a connection to a port of the guest itself, never to anything beyond it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BytesMut;
use russh::server::{ChannelOpenHandle, Msg};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::inbox::Outlet;
use super::process::Order;
use super::pump::{self, AtEnd};

/// The addresses to try for `host`, empty if it is not this guest. Names are not looked up.
pub fn targets(host: &str, port: u16, own: Option<IpAddr>) -> Vec<SocketAddr> {
    let both = || vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    if host == "localhost" {
        return both();
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => both(),
        Ok(address) if address.is_loopback() || Some(address) == own => vec![(address, port).into()],
        _ => Vec::new(),
    }
}

/// The channel as the forward sees it.
pub struct Wire {
    /// Bytes from the guest go here.
    pub channel: ChannelWriteHalf<Msg>,
    /// Bytes for the guest come from here.
    pub outlet: Outlet,
    /// Ends when the client is gone; nothing else ever comes.
    pub gone: mpsc::UnboundedReceiver<Order>,
}

/// Connects, answers the open request, and carries bytes both ways until both ends are done.
pub async fn run(targets: Vec<SocketAddr>, wire: Wire, reply: ChannelOpenHandle) {
    if targets.is_empty() {
        return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    }
    for target in targets {
        if let Ok(stream) = TcpStream::connect(target).await {
            let _ = stream.set_nodelay(true);
            reply.accept().await;
            let Wire { channel, outlet, mut gone } = wire;
            tokio::select! {
                () = carry(stream, &channel, outlet) => {}
                // A channel that is gone never opens its window again: waiting for it would leak the task.
                _ = gone.recv() => {}
            }
            return;
        }
    }
    reply.reject(ChannelOpenFailure::ConnectFailed).await;
}

async fn carry(stream: TcpStream, channel: &ChannelWriteHalf<Msg>, outlet: Outlet) {
    let (read, write) = stream.into_split();
    let to_client = async {
        send_all(read, channel).await;
        let _ = channel.eof().await;
    };
    tokio::join!(pump::input(outlet, write, AtEnd::Close), to_client);
    let _ = channel.close().await;
}

async fn send_all<R: AsyncRead + Unpin>(mut source: R, channel: &ChannelWriteHalf<Msg>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(32 * 1024);
        match source.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        if channel.data_bytes(buffer.split().freeze()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guest_itself_is_a_target() {
        let own = Some("10.0.2.15".parse().unwrap());
        assert_eq!(targets("localhost", 80, own).len(), 2);
        assert_eq!(targets("127.0.0.2", 80, own).len(), 1);
        assert_eq!(targets("[::1]", 80, own).len(), 1);
        assert_eq!(targets("10.0.2.15", 80, own).len(), 1);
        for elsewhere in ["10.0.2.2", "example.org", "", "169.254.169.254"] {
            assert!(targets(elsewhere, 80, own).is_empty(), "{elsewhere}");
        }
    }
}
