//! What banger's own client expects.

use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle, Handler, Msg};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Sig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::server::{Server, big, fresh_key};

struct Trusting;

impl Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn connect(server: &Server, key: &PrivateKey) -> Option<Handle<Trusting>> {
    let config = Arc::new(client::Config { nodelay: true, ..client::Config::default() });
    let mut session = client::connect(config, server.address, Trusting).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
    session.authenticate_publickey("root", key).await.unwrap().success().then_some(session)
}

async fn open(session: &Handle<Trusting>) -> Channel<Msg> {
    session.channel_open_session().await.unwrap()
}

#[derive(Debug, Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<u32>,
    signal: Option<Sig>,
    after_status: usize,
}

/// Everything until the channel closes.
async fn collect(mut channel: Channel<Msg>) -> Seen {
    let mut seen = Seen::default();
    let limit = Duration::from_secs(120);
    while let Some(message) = timeout(limit, channel.wait()).await.expect("the channel closes in time") {
        let ended = seen.status.is_some() || seen.signal.is_some();
        match message {
            ChannelMsg::Data { data } => {
                seen.stdout.extend_from_slice(&data);
                seen.after_status += if ended { data.len() } else { 0 };
            }
            ChannelMsg::ExtendedData { data, ext: 1 } => {
                seen.stderr.extend_from_slice(&data);
                seen.after_status += if ended { data.len() } else { 0 };
            }
            ChannelMsg::ExitStatus { exit_status } => seen.status = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => seen.signal = Some(signal_name),
            _ => {}
        }
    }
    assert_eq!(seen.after_status, 0, "output comes before the status");
    seen
}

async fn exec(session: &Handle<Trusting>, command: &str) -> Seen {
    let channel = open(session).await;
    channel.exec(true, command).await.unwrap();
    collect(channel).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_arrive_exactly_before_the_status() {
    let server = Server::start();
    std::fs::write(server.path("big"), big()).unwrap();
    let session = connect(&server, &server.key).await.unwrap();
    let seen = exec(&session, "cat big & cat big >&2; wait; exit 42").await;
    assert!(seen.stdout == big(), "stdout: {} bytes", seen.stdout.len());
    assert!(seen.stderr == big(), "stderr: {} bytes", seen.stderr.len());
    assert_eq!(seen.status, Some(42));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_of_input_pass_through() {
    let server = Server::start();
    let session = connect(&server, &server.key).await.unwrap();
    let channel = open(&session).await;
    channel.exec(true, "cat").await.unwrap();
    let (mut read, write) = channel.split();
    let sending = tokio::spawn(async move {
        write.data(big()).await.unwrap();
        write.eof().await.unwrap();
        write
    });
    let mut received = Vec::new();
    while let Some(message) = timeout(Duration::from_secs(120), read.wait()).await.expect("no deadlock") {
        if let ChannelMsg::Data { data } = message {
            received.extend_from_slice(&data);
        }
    }
    drop(sending.await.unwrap());
    assert!(received == big(), "{} bytes", received.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_reads_nothing_holds_up_neither_its_own_output_nor_its_neighbour() {
    let server = Server::start();
    let session = connect(&server, &server.key).await.unwrap();
    let stuck = open(&session).await;
    stuck.exec(true, "while :; do echo tick; sleep 0.2; done").await.unwrap();
    let (mut read, write) = stuck.split();
    let sending = tokio::spawn(async move { write.data(big()).await });
    for _ in 0..5 {
        let seen = timeout(Duration::from_secs(20), exec(&session, "echo alive; head -c 3000000 /dev/zero")).await;
        assert_eq!(seen.expect("the neighbour goes on").stdout.len(), 6 + 3_000_000);
        let tick = timeout(Duration::from_secs(20), async {
            loop {
                if matches!(read.wait().await, Some(ChannelMsg::Data { .. })) {
                    return;
                }
            }
        });
        tick.await.expect("its own output goes on");
    }
    assert!(!sending.is_finished(), "the client is held back, the guest's memory is not filled");
    sending.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reaches_the_group_and_is_reported() {
    let server = Server::start();
    let session = connect(&server, &server.key).await.unwrap();
    let mut channel = open(&session).await;
    channel.exec(true, "echo ready; exec sleep 600").await.unwrap();
    while !matches!(channel.wait().await, Some(ChannelMsg::Data { .. })) {}
    channel.signal(Sig::TERM).await.unwrap();
    let seen = collect(channel).await;
    assert!(matches!(seen.signal, Some(Sig::TERM)), "{seen:?}");
    let mut channel = open(&session).await;
    channel.exec(true, "trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.1; done").await.unwrap();
    while !matches!(channel.wait().await, Some(ChannelMsg::Data { .. })) {}
    channel.signal(Sig::USR1).await.unwrap();
    let seen = collect(channel).await;
    // The group includes the sleep, so the trap runs at once.
    assert_eq!((seen.status, seen.stdout.as_slice()), (Some(9), b"caught\n".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_size_it_was_given_and_follows_changes() {
    let server = Server::start();
    let session = connect(&server, &server.key).await.unwrap();
    let channel = open(&session).await;
    channel.request_pty(true, "xterm-test", 101, 41, 0, 0, &[]).await.unwrap();
    channel
        .exec(true, "trap 'stty size; exit 0' WINCH; echo $TERM; stty size; while :; do sleep 0.1; done")
        .await
        .unwrap();
    let (mut read, write) = channel.split();
    let mut text = String::new();
    while let Some(message) = timeout(Duration::from_secs(30), read.wait()).await.expect("in time") {
        if let ChannelMsg::Data { data } = message {
            text.push_str(&String::from_utf8_lossy(&data));
            if text.contains("41 101") && !text.contains("43 103") {
                write.window_change(103, 43, 0, 0).await.unwrap();
            }
        }
    }
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["xterm-test", "41", "101", "43", "103"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_a_login_shell_and_ends_with_its_input() {
    let server = Server::start();
    let session = connect(&server, &server.key).await.unwrap();
    let channel = open(&session).await;
    channel.request_shell(true).await.unwrap();
    channel.data(&b"echo $0; exit 4\n"[..]).await.unwrap();
    channel.eof().await.unwrap();
    let seen = collect(channel).await;
    assert!(String::from_utf8_lossy(&seen.stdout).contains("\n-") || seen.stdout.starts_with(b"-"), "{seen:?}");
    assert_eq!(seen.status, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_refused() {
    let server = Server::start();
    assert!(connect(&server, &fresh_key()).await.is_none());
    assert!(connect(&server, &server.key).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_carries_both_ways_and_a_dead_port_is_an_error() {
    let server = Server::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = u32::from(listener.local_addr().unwrap().port());
    let session = connect(&server, &server.key).await.unwrap();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let channel = session.channel_open_direct_tcpip("localhost", port, "127.0.0.1", 1).await.unwrap();
    let (mut read, mut write) = tokio::io::split(channel.into_stream());
    let sent = &big()[..20_000_000];
    let sending = tokio::spawn(async move {
        write.write_all(sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut received = vec![0; sent.len()];
    timeout(Duration::from_secs(60), read.read_exact(&mut received)).await.expect("no deadlock").unwrap();
    assert!(received == sent);
    sending.await.unwrap();
    timeout(Duration::from_secs(20), echo).await.expect("the end of input is forwarded").unwrap();
    assert!(session.channel_open_direct_tcpip("localhost", port, "127.0.0.1", 1).await.is_err());
}
