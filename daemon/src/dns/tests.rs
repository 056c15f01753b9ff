//! Decisions by table, and the server on loopback with real sockets and a resolver played here.

mod deciding;
mod serving;

use std::net::Ipv4Addr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use super::table::Table;

const BOX: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 3);

fn table() -> Table {
    Table {
        subnet: "172.16.0.0/24".parse().unwrap(),
        vms: [("box".to_owned(), BOX), ("other".to_owned(), OTHER)].into(),
        nat: [OTHER].into(),
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new();
    message
        .set_id(4711)
        .set_message_type(MessageType::Query)
        .set_op_code(OpCode::Query)
        .set_recursion_desired(true)
        .add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}
