//! What becomes of a query. Pure.

use std::net::Ipv4Addr;

use banger_proto::install::DOMAIN;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::table::{Client, Table};

/// Seconds an answer may be kept: the next VM of that name has another address.
const TTL: u32 = 1;
/// What we take and send in one datagram.
pub const MAX_PAYLOAD: u16 = 1232;

/// What to do about a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Send this back.
    Answer(Box<Message>),
    /// Ask the host's resolver this.
    Forward(Box<Message>),
    /// Say nothing.
    Ignore,
}

/// Decides about one query.
pub fn decide(query: &Message, client: Client, table: &Table) -> Decision {
    // An answer to an answer could go back and forth for ever.
    if client == Client::Stranger || query.message_type() != MessageType::Query {
        return Decision::Ignore;
    }
    let fail = |code| Decision::Answer(Box::new(reply(query, code)));
    if query.op_code() != OpCode::Query {
        return fail(ResponseCode::NotImp);
    }
    let [question] = query.queries() else { return fail(ResponseCode::FormErr) };
    if query.extensions().as_ref().is_some_and(|edns| edns.version() != 0) {
        return fail(ResponseCode::BADVERS);
    }
    if zone().zone_of(question.name()) {
        return Decision::Answer(Box::new(answer(query, question, client, table)));
    }
    match client {
        Client::Guest(address) if table.nat.contains(&address) => Decision::Forward(Box::new(onward(query, question))),
        // The host has its own resolver; a guest that may not reach the outside may not ask it for names either,
        // because a name is a message to whoever serves it.
        Client::Guest(_) | Client::Host | Client::Stranger => fail(ResponseCode::Refused),
    }
}

/// The answer to a query that could not be forwarded.
pub fn failure(query: &Message) -> Message {
    reply(query, ResponseCode::ServFail)
}

fn answer(query: &Message, question: &Query, client: Client, table: &Table) -> Message {
    let found = address_for(question.name(), client, table);
    let exists = found.is_some() || question.name().num_labels() == 1;
    let mut message = reply(query, if exists { ResponseCode::NoError } else { ResponseCode::NXDomain });
    message.set_authoritative(true);
    let wants_address = matches!(question.query_type(), RecordType::A | RecordType::ANY)
        && matches!(question.query_class(), DNSClass::IN | DNSClass::ANY);
    match found.filter(|_| wants_address) {
        Some(address) => {
            message.add_answer(Record::from_rdata(question.name().clone(), TTL, RData::A(A(address))));
        }
        // Without it nobody keeps the absence even for a moment.
        None => {
            message.add_name_server(Record::from_rdata(zone(), TTL, RData::SOA(start_of_authority())));
        }
    }
    message
}

/// A guest is told its own address only: it cannot reach the others, and who they are is none of its business.
fn address_for(name: &Name, client: Client, table: &Table) -> Option<Ipv4Addr> {
    let label = name.iter().next().filter(|_| name.num_labels() == 2)?;
    let label = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
    let address = *table.vms.get(&label)?;
    match client {
        Client::Host => Some(address),
        Client::Guest(own) => (own == address).then_some(address),
        Client::Stranger => None,
    }
}

fn reply(query: &Message, code: ResponseCode) -> Message {
    let mut message = Message::error_msg(query.id(), query.op_code(), code);
    message.set_recursion_desired(query.recursion_desired()).set_recursion_available(true);
    message.add_queries(query.queries().iter().take(1).cloned());
    if query.extensions().as_ref().is_some() {
        message.set_edns(edns(MAX_PAYLOAD));
    }
    message
}

/// The question and nothing else of what the guest sent.
fn onward(query: &Message, question: &Query) -> Message {
    let mut message = Message::new();
    message
        .set_id(query.id())
        .set_message_type(MessageType::Query)
        .set_op_code(OpCode::Query)
        .set_recursion_desired(query.recursion_desired())
        .set_checking_disabled(query.checking_disabled())
        .add_query(question.clone());
    if let Some(asked) = query.extensions().as_ref() {
        let mut edns = edns(asked.max_payload().clamp(512, MAX_PAYLOAD));
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        message.set_edns(edns);
    }
    message
}

fn edns(max_payload: u16) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(max_payload).set_version(0);
    edns
}

fn zone() -> Name {
    Name::from_ascii(format!("{DOMAIN}.")).expect("the domain is one label")
}

fn start_of_authority() -> SOA {
    let second = i32::try_from(TTL).unwrap_or(i32::MAX);
    SOA::new(zone(), zone(), 1, second, second, second, TTL)
}
