//! The batch, compared with golden text, and the comparison with what nft lists.

use std::net::Ipv4Addr;

use super::*;
use crate::ledger::Holdings;

fn network() -> Network {
    Network::default()
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    for (digit, host, nat) in [('1', 2, false), ('2', 3, true)] {
        let vm = digit.to_string().repeat(32).parse().expect("an id");
        let link = Some(Ipv4Addr::new(172, 16, 0, host));
        *ledger.entry(vm) = Holdings { link, nat, ..Holdings::default() };
    }
    ledger
}

/// One object a line.
fn lines(batch: &Value) -> String {
    let objects = batch["nftables"].as_array().expect("a list");
    objects.iter().map(|object| format!("{object}\n")).collect()
}

#[test]
fn the_batch_is_the_golden_one() {
    // Of a small network: its set of guests can be read.
    let small = Network { subnet: "172.16.0.0/28".parse().expect("a network"), ..network() };
    let (rendered, golden) = (lines(&render(&small, &ledger())), include_str!("golden.jsonl"));
    assert_eq!(rendered, golden, "if it is meant to differ, look at each line and put it into golden.jsonl");
}

#[test]
fn a_guest_that_comes_or_goes_changes_no_table() {
    let without_nat = |vms: &[(char, u8)]| {
        let mut ledger = Ledger::default();
        for (digit, host) in vms {
            let vm = digit.to_string().repeat(32).parse().expect("an id");
            ledger.entry(vm).link = Some(Ipv4Addr::new(172, 16, 0, *host));
        }
        render(&network(), &ledger)
    };
    assert_eq!(without_nat(&[]), without_nat(&[('1', 2), ('2', 254)]));
}

#[test]
fn every_guest_there_may_be_is_listed_once_with_what_is_its_own() {
    let wide = Network { subnet: "10.0.0.0/16".parse().expect("a network"), ..network() };
    let mut far = Ledger::default();
    far.entry("1".repeat(32).parse().expect("an id")).link = Some(Ipv4Addr::new(10, 0, 7, 9));
    for (network, ledger, first, count) in [
        (network(), Ledger::default(), "fc-ac100002 02:fc:ac:10:00:02 172.16.0.2", 253),
        // Of a large network those near the guests there are, and near the bridge.
        (wide.clone(), Ledger::default(), "fc-0a000002 02:fc:0a:00:00:02 10.0.0.2", 254),
        (wide, far, "fc-0a000002 02:fc:0a:00:00:02 10.0.0.2", 254 + 256),
    ] {
        let batch = render(&network, &ledger);
        let sets = batch["nftables"].as_array().expect("a list").iter().map(|object| &object["add"]["set"]);
        let guests = sets.filter(|set| set["name"] == "guests").collect::<Vec<_>>();
        let elements = guests[0]["elem"].as_array().expect("a list");
        let text = |element: &Value| {
            let fields = element["concat"].as_array().expect("a list").iter().filter_map(Value::as_str);
            fields.collect::<Vec<_>>().join(" ")
        };
        let mut texts: Vec<String> = elements.iter().map(text).collect();
        assert_eq!((texts[0].as_str(), texts.len()), (first, count));
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), count);
    }
}

#[test]
fn every_object_is_in_a_table_of_ours() {
    for object in render(&network(), &ledger())["nftables"].as_array().expect("a list") {
        let (_, inner) = object.as_object().and_then(|verb| verb.iter().next()).expect("a verb");
        let (kind, object) = inner.as_object().and_then(|kind| kind.iter().next()).expect("a kind");
        let table = if kind == "table" { &object["name"] } else { &object["table"] };
        assert_eq!(table, TABLE, "{object}");
    }
}

#[test]
fn a_guest_without_nat_is_not_in_the_nat_set() {
    let batch = lines(&render(&network(), &ledger()));
    let set = batch.lines().find(|line| line.contains("\"name\":\"nat\"")).expect("there is one");
    assert!(set.contains("172.16.0.3") && !set.contains("172.16.0.2"), "{set}");
}

#[test]
fn a_listing_that_lacks_a_rule_or_an_element_does_not_match() {
    let batch = render(&network(), &ledger());
    let listed: Vec<Value> =
        batch["nftables"].as_array().expect("a list").iter().filter_map(|object| object.get("add")).cloned().collect();
    let listing = |objects: Vec<Value>| [json!({"nftables": objects})];
    assert!(matches(&batch, &listing(listed.clone())));
    for (at, object) in listed.iter().enumerate().filter(|(_, object)| object.get("rule").is_some()) {
        let mut lacking = listed.clone();
        lacking.remove(at);
        assert!(!matches(&batch, &listing(lacking)), "{object}");
    }
    let mut emptied = listed;
    let set = emptied.iter_mut().find(|object| object.get("set").is_some()).expect("there is one");
    set["set"]["elem"] = json!([]);
    assert!(!matches(&batch, &listing(emptied)));
    assert!(!matches(&batch, &[]));
}
