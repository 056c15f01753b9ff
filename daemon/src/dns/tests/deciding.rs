//! What a query is answered with, decided without a network.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, RecordType};

use super::super::decide::{Decision, MAX_PAYLOAD, decide};
use super::super::table::Client;
use super::{BOX, OTHER, query, table};

fn answered(query: &Message, client: Client) -> Message {
    match decide(query, client, &table()) {
        Decision::Answer(answer) => {
            assert_eq!((answer.id(), answer.message_type()), (query.id(), MessageType::Response));
            *answer
        }
        other => panic!("{other:?}"),
    }
}

/// Response code and addresses.
fn told(name: &str, kind: RecordType, client: Client) -> (ResponseCode, Vec<std::net::Ipv4Addr>) {
    let answer = answered(&query(name, kind), client);
    let addresses = answer.answers().iter().filter_map(|record| match record.data() {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    (answer.response_code(), addresses.collect())
}

#[test]
fn the_host_resolves_every_running_vm_whatever_the_case() {
    for (name, kind, expected) in [
        ("box.vm.", RecordType::A, (ResponseCode::NoError, vec![BOX])),
        ("BoX.VM.", RecordType::A, (ResponseCode::NoError, vec![BOX])),
        ("other.vm.", RecordType::ANY, (ResponseCode::NoError, vec![OTHER])),
        ("box.vm.", RecordType::AAAA, (ResponseCode::NoError, vec![])),
        ("box.vm.", RecordType::TXT, (ResponseCode::NoError, vec![])),
        ("vm.", RecordType::SOA, (ResponseCode::NoError, vec![])),
        ("nobody.vm.", RecordType::A, (ResponseCode::NXDomain, vec![])),
        ("nobody.vm.", RecordType::AAAA, (ResponseCode::NXDomain, vec![])),
        ("a.box.vm.", RecordType::A, (ResponseCode::NXDomain, vec![])),
        ("example.org.", RecordType::A, (ResponseCode::Refused, vec![])),
    ] {
        assert_eq!(told(name, kind, Client::Host), expected, "{name} {kind}");
    }
}

#[test]
fn a_guest_knows_its_own_name_and_no_other_guests() {
    assert_eq!(told("box.vm.", RecordType::A, Client::Guest(BOX)), (ResponseCode::NoError, vec![BOX]));
    assert_eq!(told("other.vm.", RecordType::A, Client::Guest(BOX)), (ResponseCode::NXDomain, vec![]));
}

#[test]
fn only_a_guest_with_nat_may_ask_for_other_names() {
    let asked = query("example.org.", RecordType::A);
    assert_eq!(answered(&asked, Client::Guest(BOX)).response_code(), ResponseCode::Refused);
    let Decision::Forward(onward) = decide(&asked, Client::Guest(OTHER), &table()) else { panic!("not forwarded") };
    assert_eq!(onward.queries(), asked.queries());
    assert!(onward.recursion_desired());
    assert_eq!(told("nobody.vm.", RecordType::A, Client::Guest(OTHER)).0, ResponseCode::NXDomain, "never forwarded");
}

#[test]
fn strangers_and_answers_are_met_with_silence() {
    assert_eq!(decide(&query("box.vm.", RecordType::A), Client::Stranger, &table()), Decision::Ignore);
    let mut answer = query("box.vm.", RecordType::A);
    answer.set_message_type(MessageType::Response);
    assert_eq!(decide(&answer, Client::Host, &table()), Decision::Ignore);
}

#[test]
fn what_is_no_plain_question_is_refused_as_such() {
    let mut update = query("box.vm.", RecordType::A);
    update.set_op_code(OpCode::Update);
    assert_eq!(answered(&update, Client::Host).response_code(), ResponseCode::NotImp);
    let mut two = query("box.vm.", RecordType::A);
    two.add_query(two.queries()[0].clone());
    assert_eq!(answered(&two, Client::Host).response_code(), ResponseCode::FormErr);
    let mut later = query("box.vm.", RecordType::A);
    later.set_edns(Edns::new().set_version(1).clone());
    assert_eq!(answered(&later, Client::Host).response_code(), ResponseCode::BADVERS);
}

#[test]
fn absence_may_be_kept_only_for_a_moment() {
    for name in ["nobody.vm.", "box.vm."] {
        let answer = answered(&query(name, RecordType::AAAA), Client::Host);
        let authority = &answer.name_servers()[0];
        assert_eq!((authority.record_type(), authority.ttl()), (RecordType::SOA, 1), "{name}");
        assert!(answer.authoritative());
    }
}

#[test]
fn nothing_a_guest_adds_to_its_question_goes_on() {
    let mut asked = query("example.org.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(65_000).set_dnssec_ok(true);
    edns.options_mut().insert(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(65_001, vec![1, 2, 3]));
    asked.set_edns(edns);
    let Decision::Forward(onward) = decide(&asked, Client::Guest(OTHER), &table()) else { panic!("not forwarded") };
    let sent = onward.extensions().as_ref().unwrap();
    assert_eq!((sent.max_payload(), sent.flags().dnssec_ok), (MAX_PAYLOAD, true));
    assert!(sent.options().as_ref().is_empty());
}

#[test]
fn a_client_is_who_its_address_says() {
    let table = table();
    for (address, expected) in [
        ("172.16.0.1", Client::Host),
        ("127.0.0.1", Client::Host),
        ("172.16.0.2", Client::Guest(BOX)),
        ("172.16.0.255", Client::Stranger),
        ("172.16.1.2", Client::Stranger),
        ("::1", Client::Stranger),
    ] {
        assert_eq!(table.client(address.parse().unwrap()), expected, "{address}");
    }
}
