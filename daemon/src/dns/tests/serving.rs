//! Real queries to a real server on loopback.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::super::table::Table;
use super::super::{bind_at, run};
use super::{BOX, query};

const LONG: Duration = Duration::from_secs(20);

struct Served {
    address: SocketAddr,
    closing: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Clients on loopback are the host.
fn serve() -> Served {
    let sockets = bind_at(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = sockets.udp.local_addr().unwrap();
    let closing = CancellationToken::new();
    let observe = move || Table {
        subnet: "172.16.0.0/24".parse().unwrap(),
        vms: [("box".to_owned(), BOX)].into(),
        nat: [].into(),
    };
    tokio::spawn(run(sockets, Arc::new(observe), Arc::new(Vec::new), closing.clone()));
    Served { address, closing }
}

async fn ask(server: SocketAddr, query: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(&query.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let (length, _) = tokio::time::timeout(LONG, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn ask_stream(stream: &mut TcpStream, query: &Message) -> Message {
    let bytes = query.to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

#[tokio::test]
async fn a_name_is_answered_over_both_transports() {
    let served = serve();
    let answer = ask(served.address, &query("box.vm.", RecordType::A)).await;
    assert!(matches!(answer.answers()[0].data(), RData::A(address) if address.0 == BOX));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for _ in 0..2 {
        let answer = ask_stream(&mut stream, &query("box.vm.", RecordType::A)).await;
        assert_eq!(answer.answers().len(), 1);
    }
}

#[tokio::test]
async fn an_address_that_no_link_has_yet_can_be_bound() {
    // TEST-NET-1 belongs to nobody.
    bind_at(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 0)).unwrap();
}

#[tokio::test]
async fn garbage_does_not_stop_the_server() {
    let served = serve();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for garbage in [&b""[..], b"x", &[0xff; 600], &[0; 12]] {
        socket.send_to(garbage, served.address).await.unwrap();
    }
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&[0xff, 0xff, 1, 2, 3]).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap().ok();
    assert!(rest.is_empty());
    assert_eq!(ask(served.address, &query("box.vm.", RecordType::A)).await.answers().len(), 1);
}

/// A resolver that guesses first: a wrong id, a wrong question, then the truth.
async fn guess_then_answer(resolver: UdpSocket) {
    let mut buffer = [0; 4096];
    loop {
        let (length, client) = resolver.recv_from(&mut buffer).await.unwrap();
        let asked = Message::from_vec(&buffer[..length]).unwrap();
        assert_ne!(asked.id(), 4711, "the guest does not choose the id");
        let mut truth = asked.clone();
        let record =
            Record::from_rdata(asked.queries()[0].name().clone(), 60, RData::A(Ipv4Addr::new(192, 0, 2, 7).into()));
        truth.set_message_type(MessageType::Response).add_answer(record);
        let mut wrong_id = truth.clone();
        wrong_id.set_id(asked.id().wrapping_add(1));
        let mut wrong_question = query("evil.org.", RecordType::A);
        wrong_question.set_id(asked.id()).set_message_type(MessageType::Response);
        for message in [wrong_id, wrong_question, truth] {
            resolver.send_to(&message.to_vec().unwrap(), client).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_guests_question_goes_on_and_only_its_true_answer_comes_back() {
    let resolver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let upstream = resolver.local_addr().unwrap();
    tokio::spawn(guess_then_answer(resolver));
    let mut asked = query("example.org.", RecordType::A);
    let answer = super::super::forward::ask(&asked, super::super::forward::Transport::Udp, &[upstream]).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.id(), answer.queries()), (4711, asked.queries()));
    assert!(matches!(answer.answers()[0].data(), RData::A(address) if address.0 == Ipv4Addr::new(192, 0, 2, 7)));
    asked.set_id(1);
    let none = super::super::forward::ask(&asked, super::super::forward::Transport::Tcp, &[upstream]).await;
    assert_eq!(none, None, "nobody listens there");
}

#[tokio::test]
async fn the_hosts_other_names_are_none_of_ours() {
    let served = serve();
    let answer = ask(served.address, &query("example.org.", RecordType::A)).await;
    assert_eq!(answer.response_code(), ResponseCode::Refused);
}
