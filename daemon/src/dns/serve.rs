//! The two sockets: datagrams and streams in, answers out, nobody waited for without bound.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::Sockets;
use super::decide::{Decision, decide, failure};
use super::forward::{Transport, Upstream, ask};
use super::load::{Limits, Load, Slot};
use super::table::Table;

/// Questions under way to the host's resolver, and connections.
const LIMITS: Limits = Limits { total: 256, per_client: 32 };
/// No query is longer.
const QUERY_LIMIT: usize = 4096;
/// A client that says nothing for this long is gone.
const IDLE: Duration = Duration::from_secs(10);
/// After a failed receive or accept.
const AGAIN: Duration = Duration::from_millis(100);

/// Tells what can be asked for now.
pub type Observe = Arc<dyn Fn() -> Table + Send + Sync>;

#[derive(Clone)]
struct Server {
    observe: Observe,
    upstream: Upstream,
    load: Load,
}

/// Serves until `closing`.
///
/// # Errors
/// If the sockets cannot be used.
pub async fn run(sockets: Sockets, observe: Observe, upstream: Upstream, closing: CancellationToken) -> io::Result<()> {
    let udp = Arc::new(UdpSocket::from_std(sockets.udp)?);
    let tcp = TcpListener::from_std(sockets.tcp)?;
    let server = Server { observe, upstream, load: Load::new(LIMITS) };
    tokio::select! {
        () = server.serve_datagrams(udp) => {}
        () = server.serve_streams(tcp) => {}
        () = closing.cancelled() => {}
    }
    Ok(())
}

impl Server {
    async fn serve_datagrams(&self, socket: Arc<UdpSocket>) {
        let mut buffer = [0; QUERY_LIMIT];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // Also the news that a client is gone arrives as an error of the next call.
                    tracing::debug!("cannot receive a query: {error}");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
            match self.decide(&query, client) {
                Decision::Ignore => {}
                Decision::Answer(answer) => send(&socket, &answer, client).await,
                Decision::Forward(onward) => {
                    let Some(slot) = self.load.enter(client.ip()) else { continue };
                    let (server, socket) = (self.clone(), Arc::clone(&socket));
                    tokio::spawn(async move {
                        server.forward_datagram(&query, &onward, (&socket, client)).await;
                        drop(slot);
                    });
                }
            }
        }
    }

    async fn forward_datagram(&self, query: &Message, onward: &Message, (socket, client): (&UdpSocket, SocketAddr)) {
        match ask(onward, Transport::Udp, &(self.upstream)()).await {
            Some(answer) => sent(socket.send_to(&answer, client).await),
            None => send(socket, &failure(query), client).await,
        }
    }

    async fn serve_streams(&self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    let Some(slot) = self.load.enter(client.ip()) else { continue };
                    let server = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = server.serve_stream(stream, client, slot).await {
                            tracing::debug!(%client, "a connection for names broke: {error}");
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!("cannot accept a connection for names: {error}");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// One question after the other, until the client goes or is silent.
    async fn serve_stream(&self, mut stream: TcpStream, client: SocketAddr, _slot: Slot) -> io::Result<()> {
        while let Ok(query) = tokio::time::timeout(IDLE, read_query(&mut stream)).await {
            let query = query?;
            let answer = match self.decide(&query, client) {
                Decision::Ignore => return Ok(()),
                Decision::Answer(answer) => encode(&answer)?,
                Decision::Forward(onward) => match ask(&onward, Transport::Tcp, &(self.upstream)()).await {
                    Some(answer) => answer,
                    None => encode(&failure(&query))?,
                },
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
            tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
        }
        Ok(())
    }

    fn decide(&self, query: &Message, client: SocketAddr) -> Decision {
        let table = (self.observe)();
        decide(query, table.client(client.ip()), &table)
    }
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Message> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY_LIMIT {
        return Err(io::Error::other("a query is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Message::from_vec(&bytes).map_err(io::Error::other)
}

async fn send(socket: &UdpSocket, answer: &Message, client: SocketAddr) {
    match encode(answer) {
        Ok(bytes) => sent(socket.send_to(&bytes, client).await),
        Err(error) => tracing::warn!("an answer cannot be written: {error}"),
    }
}

/// A client that did not get its answer asks again.
fn sent(outcome: io::Result<usize>) {
    if let Err(error) = outcome {
        tracing::debug!("an answer could not be sent: {error}");
    }
}

fn encode(message: &Message) -> io::Result<Vec<u8>> {
    message.to_vec().map_err(io::Error::other)
}
