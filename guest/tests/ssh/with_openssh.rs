//! What people's own ssh expects.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::server::{Server, big, eventually, fresh_key, is_running};

#[test]
fn the_exit_status_is_the_commands() {
    let server = Server::start();
    for code in [0, 1, 42, 255] {
        let status = server.ssh().arg(format!("exit {code}")).status().unwrap();
        assert_eq!(status.code(), Some(code));
    }
}

#[test]
fn a_hundred_megabytes_arrive_exactly_on_both_streams_at_once() {
    let server = Server::start();
    std::fs::write(server.path("big"), big()).unwrap();
    let output = server.ssh().arg("cat big & cat big >&2; wait").output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == big(), "stdout: {} bytes", output.stdout.len());
    assert!(output.stderr == big(), "stderr: {} bytes", output.stderr.len());
}

#[test]
fn a_hundred_megabytes_of_input_pass_through() {
    let server = Server::start();
    let mut child = server.ssh().arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(big()));
    let mut received = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(received == big(), "{} bytes", received.len());
}

#[test]
fn a_command_that_reads_no_input_ends_although_more_is_sent() {
    let server = Server::start();
    let mut child = server.ssh().arg("head -c 5; exit 3").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(big()));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, &big()[..5]);
    assert_eq!(output.status.code(), Some(3));
    let _ = writer.join().unwrap();
}

#[test]
fn a_child_left_in_the_background_neither_holds_the_channel_nor_dies() {
    let server = Server::start();
    let started = Instant::now();
    let mark = format!("600.{}", server.address.port());
    let output = server.ssh().arg(format!("sleep {mark} & echo started; exit 5")).output().unwrap();
    assert_eq!(output.stdout, b"started\n");
    assert_eq!(output.status.code(), Some(5));
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
    assert!(is_running(&mark));
    assert!(server.ssh().arg(format!("pkill -f 'sleep {mark}'")).status().is_ok());
}

#[test]
fn losing_the_client_hangs_up_the_whole_process_group() {
    let server = Server::start();
    let mark = format!("601.{}", server.address.port());
    let mut client =
        server.ssh().arg(format!("sleep {mark} | sleep {mark}; true")).stdin(Stdio::piped()).spawn().unwrap();
    eventually("the command runs", || is_running(&format!("sleep\0{mark}")));
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the command is gone", || !is_running(&mark));
}

#[test]
fn neither_another_key_nor_a_user_that_does_not_exist_gets_in() {
    let server = Server::start();
    let wrong = server.write_key("wrong", &fresh_key());
    let refused = |mut command: std::process::Command| {
        let output = command.arg("echo in").output().unwrap();
        output.status.code() == Some(255) && output.stdout.is_empty()
    };
    let mut command = server.openssh(&wrong);
    command.arg("root@127.0.0.1");
    assert!(refused(command));
    for ghost in ["ghost-of-nobody", "daemon:ghosts"] {
        let mut command = server.openssh(&server.path("id"));
        command.arg("-l").arg(ghost).arg("127.0.0.1");
        assert!(refused(command), "{ghost}");
    }
}

/// For these the server must be root, as it is in a guest.
#[allow(clippy::print_stderr)]
fn is_root() -> bool {
    let root = rustix::process::getuid().is_root();
    if !root {
        eprintln!("skipped: only root can become another user");
    }
    root
}

#[test]
fn the_login_name_or_the_variable_says_whose_session_it_is() {
    if !is_root() {
        return;
    }
    let server = Server::start_as("daemon:bin");
    let say = |login: &str, variable: Option<&str>, command: &str| {
        let mut ssh = server.openssh(&server.path("id"));
        if let Some(user) = variable {
            ssh.arg("-o").arg(format!("SetEnv=BANGER_USER={user}"));
        }
        let output = ssh.arg("-l").arg(login).args(["127.0.0.1", command]).output().unwrap();
        let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (out.trim().to_owned(), error.trim().to_owned(), output.status.code())
    };
    let out = |login, variable, command| say(login, variable, command).0;
    // `daemon`, uid and gid 1, has /usr/sbin/nologin for a shell: an image's user needs none to run commands.
    assert_eq!(out("root", None, "id -u; echo $USER $HOME"), "0\nroot /root");
    assert_eq!(out("daemon", None, "id -u; id -g; echo $USER"), "1\n1\ndaemon");
    assert_eq!(out("root", Some(""), "id -u; id -g; id -G; echo [$BANGER_USER]"), "1\n2\n2\n[]");
    assert_eq!(out("root", Some("nobody"), "id -un"), "nobody");
    assert_eq!(out("root", Some("4711:4712"), "id -u; id -G; pwd; echo $HOME | head -c 1"), {
        format!("4711\n4712\n{}\n/", server.directory.path().display())
    });
    // What it was given as its standard streams is its own to open.
    assert_eq!(out("daemon", None, "echo again > /dev/stdout"), "again");
    let (_, error, code) = say("root", Some("ghost"), "id");
    assert!(error.starts_with("banger-guest: there is no user \"ghost\" in the image's /etc/passwd"), "{error}");
    assert_eq!(code, Some(126));
    let mut ssh = server.openssh(&server.path("id"));
    let terminal =
        ssh.args(["-tt", "-l", "daemon", "127.0.0.1", "stat -c %u $(tty); id -u < /dev/tty"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&terminal.stdout).replace('\r', ""), "1\n1\n");
}

#[test]
fn a_terminal_is_one_and_its_foreground_gets_control_c() {
    let server = Server::start();
    let mut command = server.ssh();
    command.arg("-tt").arg("tty; trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut chunk = [0u8; 256];
    while !String::from_utf8_lossy(&seen).contains("ready") {
        let count = stdout.read(&mut chunk).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..count]);
    }
    stdin.write_all(&[3]).unwrap();
    stdout.read_to_end(&mut seen).unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert!(text.starts_with("/dev/pts/") && text.contains("caught"), "{text}");
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn the_environment_is_roots_the_images_and_only_harmless_parts_of_the_clients() {
    let server = Server::start();
    let mut command = server.ssh();
    command.args(["-o", "SendEnv=LC_TEST BANGER_TEST LD_TEST"]).env("LC_TEST", "1").env("BANGER_TEST", "2");
    let output = command.env("LD_TEST", "3").arg("env; pwd").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let has = |line: &str| text.lines().any(|held| held == line);
    for line in ["LC_TEST=1", "BANGER_TEST=2", "FROM_IMAGE=yes", "USER=root", server.directory.path().to_str().unwrap()]
    {
        assert!(has(line), "{line} in {text}");
    }
    assert!(!text.contains("LD_TEST"));
}

#[test]
fn sessions_inherit_no_descriptors_and_no_ignored_signals() {
    let server = Server::start();
    let output = server.ssh().arg("ls /proc/self/fd; grep SigIgn /proc/self/status").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[..5], ["0", "1", "2", "3", "SigIgn:"]);
    // 32 and 33 belong to the C library; the machine running this test may ignore them.
    assert_eq!(u64::from_str_radix(words[5], 16).unwrap() & 0x7fff_ffff, 0);
}

#[test]
fn a_forward_reaches_local_ports_and_nothing_else() {
    let server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    });
    let mut command = server.openssh(&server.path("id"));
    command.args(["-W", &format!("localhost:{port}"), "root@127.0.0.1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&big()[..5_000_000]).unwrap();
    let output = child.wait_with_output().unwrap();
    echo.join().unwrap();
    assert!(output.stdout == big()[..5_000_000], "{} bytes", output.stdout.len());
    let mut command = server.openssh(&server.path("id"));
    let status = command.args(["-W", "192.0.2.1:80", "root@127.0.0.1"]).stdin(Stdio::null()).status().unwrap();
    assert!(!status.success());
}
