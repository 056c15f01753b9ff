#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_helpers_log_gets_an_id_it_takes() {
    for (given, sent) in [("op-12ab", "op-12ab"), ("", "-"), ("Über_uns", "beruns")] {
        assert_eq!(plain_id(given), sent);
    }
    assert_eq!(plain_id(&"x".repeat(100)).len(), 64);
}

#[test]
fn an_answer_that_is_none_is_a_fault_of_the_installation() {
    for bytes in [&b""[..], b"\xff\xff", &Response::default().encode_to_vec()] {
        let error = read_answer("tell what there is", bytes, None).unwrap_err();
        assert_eq!(error.kind, Kind::Internal);
        assert!(error.hints[0].contains("`sudo banger system install"), "{:?}", error.hints);
    }
}

#[test]
fn a_refusal_without_a_word_still_says_something() {
    let error = refused(Refusal::default());
    assert!(!error.attempt.is_empty());
}

#[tokio::test]
async fn a_silent_helper_is_given_up() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("s");
    let listener = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let short = Duration::from_millis(50);
    let client = RootClient::new(&path, Patience { long: short, short, absence: short });
    let error = client.inventory("test").await.unwrap_err();
    assert!(Failure::from_error(&error).to_string().contains("did not answer"), "{error:?}");
}
