//! The SSH client against a real server.

use std::time::Duration;

use banger_sync::ssh::{
    ConnectError, Connection, ExitStatus, Pty, SessionError, SessionEvent, SessionReader, SessionSignal,
    ensure_identity,
};

use crate::sshd::Sshd;

async fn collect(mut reader: SessionReader) -> (Vec<u8>, Vec<u8>, SessionEvent) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match reader.next().await {
            SessionEvent::Stdout(bytes) => out.extend_from_slice(&bytes),
            SessionEvent::Stderr(bytes) => err.extend_from_slice(&bytes),
            end => {
                assert_eq!(reader.next().await, SessionEvent::Closed);
                return (out, err, end);
            }
        }
    }
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("within two minutes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_error_and_status_come_separately_and_in_full() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let (writer, reader) = connection.exec("printf out; printf err >&2; cat; exit 42", None).await.unwrap();
    writer.write(&b"input"[..]).await.unwrap();
    writer.eof().await.unwrap();
    let (out, err, end) = bounded(collect(reader)).await;
    assert_eq!((&out[..], &err[..]), (&b"outinput"[..], &b"err"[..]));
    assert_eq!(end, SessionEvent::Exit(ExitStatus::Code(42)));
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_go_and_come_back_unchanged() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let (writer, mut reader) = connection.exec("cat", None).await.unwrap();
    let total: u64 = 100_000_000;
    let block: Vec<u8> = (0..1_000_003_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sent = tokio::spawn(async move {
        let mut hasher = blake3::Hasher::new();
        let mut left = total;
        while left > 0 {
            let count = usize::try_from(left.min(block.len() as u64)).unwrap();
            hasher.update(&block[..count]);
            writer.write(block[..count].to_vec()).await.unwrap();
            left -= count as u64;
        }
        writer.eof().await.unwrap();
        hasher.finalize()
    });
    let mut hasher = blake3::Hasher::new();
    let mut received = 0;
    let end = bounded(async {
        loop {
            match reader.next().await {
                SessionEvent::Stdout(bytes) => {
                    received += bytes.len() as u64;
                    hasher.update(&bytes);
                }
                other => return other,
            }
        }
    })
    .await;
    assert_eq!(received, total);
    assert_eq!(hasher.finalize(), sent.await.unwrap());
    assert_eq!(end, SessionEvent::Exit(ExitStatus::Code(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_stops_the_command() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let (_writer, mut reader) = connection.exec("head -c 50000000 /dev/zero; echo done >&2", None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // It cannot have finished: that much fits into no window and no buffer on the way.
    let first = reader.next().await;
    assert!(matches!(first, SessionEvent::Stdout(_)));
    let (out, err, _) = bounded(collect(reader)).await;
    assert!(out.len() < 50_000_000);
    assert_eq!(err, b"done\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_by_signal_is_told() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let (_writer, reader) = connection.exec("kill -USR1 $$", None).await.unwrap();
    let (_, _, end) = bounded(collect(reader)).await;
    assert_eq!(end, SessionEvent::Exit(ExitStatus::Signal("USR1".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_reach_the_command() {
    let Some(sshd) = Sshd::start() else { return };
    if sshd.target.user == "root" {
        eprintln!("skipped: OpenSSH forwards no signals to sessions of root");
        return;
    }
    let connection = sshd.connect().await;
    let (writer, mut reader) = connection.exec("echo up; exec sleep 100", None).await.unwrap();
    assert_eq!(reader.next().await, SessionEvent::Stdout("up\n".into()));
    writer.signal(SessionSignal::Term).await.unwrap();
    let (_, _, end) = bounded(collect(reader)).await;
    assert_eq!(end, SessionEvent::Exit(ExitStatus::Signal("TERM".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_the_size_it_was_given() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let pty = Pty { term: "xterm".into(), columns: 91, rows: 23 };
    let script = "stty size; echo $TERM; read x; stty size";
    let (writer, mut reader) = connection.exec(script, Some(&pty)).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("xterm") {
        match bounded(reader.next()).await {
            SessionEvent::Stdout(bytes) => seen.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    writer.resize(120, 40).await.unwrap();
    writer.write(&b"\n"[..]).await.unwrap();
    let (rest, _, end) = bounded(collect(reader)).await;
    assert!(String::from_utf8_lossy(&seen).contains("23 91"));
    assert!(String::from_utf8_lossy(&rest).contains("40 120"), "{rest:?}");
    assert_eq!(end, SessionEvent::Exit(ExitStatus::Code(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_share_one_connection() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let mut tasks = Vec::new();
    for number in 0..20 {
        let connection = connection.clone();
        tasks.push(tokio::spawn(async move {
            let (_writer, reader) = connection.exec(&format!("echo {number}; exit {number}"), None).await.unwrap();
            let (out, _, end) = collect(reader).await;
            assert_eq!(out, format!("{number}\n").as_bytes());
            assert_eq!(end, SessionEvent::Exit(ExitStatus::Code(number)));
        }));
    }
    for task in tasks {
        bounded(task).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_key_is_never_talked_to() {
    let Some(sshd) = Sshd::start() else { return };
    let other = tempfile::tempdir().unwrap();
    let mut target = sshd.target.clone();
    target.host_key = ensure_identity(&other.path().join("key")).unwrap();
    let outcome = Connection::connect(&target).await;
    assert!(matches!(outcome, Err(ConnectError::HostKeyMismatch { .. })), "{:?}", outcome.err());
    let mut target = sshd.target.clone();
    target.identity = other.path().join("key");
    let outcome = Connection::connect(&target).await;
    assert!(matches!(outcome, Err(ConnectError::Denied { .. })), "{:?}", outcome.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_no_exit_status() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    // The session's own server process is the parent of its shell.
    let (writer, mut reader) = connection.exec("echo up; read x; kill -9 $PPID; exec sleep 20", None).await.unwrap();
    assert_eq!(bounded(reader.next()).await, SessionEvent::Stdout("up\n".into()));
    writer.write(&b"now\n"[..]).await.unwrap();
    assert_eq!(bounded(reader.next()).await, SessionEvent::Closed);
    let gone = bounded(async {
        loop {
            if let Err(error) = writer.write(vec![0; 1 << 20]).await {
                return error;
            }
        }
    })
    .await;
    assert!(matches!(gone, SessionError::Closed | SessionError::Send { .. }), "{gone:?}");
    assert!(connection.exec("true", None).await.is_err());
}
