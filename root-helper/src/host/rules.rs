//! The two tables as one nft batch: a pure function of the network and the ledger, so that putting them right is
//! always the same act, whatever was changed.
//!
//! ```text
//! table bridge banger   for each tap: only frames with the guest's own MAC and IPv4 address, IPv4 and ARP, nothing else
//! table inet banger     from guests: names from bangerd, ping of the gateway, answers; beyond the host only with nat
//! ```
//! Replaces its own two tables in one transaction and never names another. A tap is called by its guest's address, so the
//! bridge's table has every guest there may be of each 256 addresses one of which is taken: a VM comes and goes without
//! a change of it.

use banger_proto::install::{DNS_PORT, Network, Subnet, TAP_PREFIX, guest_mac_text, tap};
use serde_json::{Value, json};

use crate::ledger::Ledger;

const TABLE: &str = "banger";
const FAMILIES: [&str; 2] = ["bridge", "inet"];
const DNS: u16 = 53;

/// The batch that makes the tables what they should be.
pub fn render(network: &Network, ledger: &Ledger) -> Value {
    let mut batch = Vec::new();
    for family in FAMILIES {
        let table = json!({"family": family, "name": TABLE});
        // Adding what may exist makes deleting it succeed; all in one transaction.
        batch.extend([json!({"add": {"table": table}}), json!({"delete": {"table": table}})]);
        batch.push(json!({"add": {"table": table}}));
    }
    render_bridge(network.subnet, ledger, &mut batch);
    render_inet(network, ledger, &mut batch);
    json!({"nftables": batch})
}

/// The batch that removes them.
pub fn render_removal() -> Value {
    let remove = |family| {
        let table = json!({"family": family, "name": TABLE});
        [json!({"add": {"table": table}}), json!({"delete": {"table": table}})]
    };
    json!({"nftables": FAMILIES.into_iter().flat_map(remove).collect::<Vec<_>>()})
}

/// The batches that ask for them: one for each, because nft 1.0 answers only the first question of a batch.
pub fn render_queries() -> [Value; 2] {
    FAMILIES.map(|family| json!({"nftables": [{"list": {"table": {"family": family, "name": TABLE}}}]}))
}

/// True if what nft listed has the rules and elements of the batch: as many of each, in each chain and set.
pub fn matches(batch: &Value, listings: &[Value]) -> bool {
    let objects = |value: &Value| value["nftables"].as_array().cloned().unwrap_or_default();
    let mut wanted: Vec<Shape> = objects(batch).iter().filter_map(|object| shape(&object["add"])).collect();
    let mut found: Vec<Shape> = listings.iter().flat_map(objects).filter_map(|object| shape(&object)).collect();
    wanted.sort();
    found.sort();
    !wanted.is_empty() && wanted == found
}

/// Family, chain or set, number of elements.
type Shape = (String, String, usize);

fn shape(object: &Value) -> Option<Shape> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(rule) = object.get("rule") {
        return Some((text(&rule["family"])?, text(&rule["chain"])?, 0));
    }
    let set = object.get("set")?;
    Some((text(&set["family"])?, text(&set["name"])?, 1 + set["elem"].as_array().map_or(0, Vec::len)))
}

fn render_bridge(subnet: Subnet, ledger: &Ledger, batch: &mut Vec<Value>) {
    let guests = subnet.guests_near(ledger.links().chain([subnet.gateway()]));
    let guests = guests.map(|guest| json!({"concat": [tap(guest), guest_mac_text(guest), guest.to_string()]}));
    batch.push(set("bridge", "guests", &json!(["ifname", "ether_addr", "ipv4_addr"]), guests.collect()));
    batch.push(chain("bridge", "guests", &json!({"type": "filter", "hook": "prerouting", "prio": -200})));
    let from_tap = || equal(meta("iifname"), json!(format!("{TAP_PREFIX}*")));
    let one_of = |fields: [Value; 3]| equal(json!({"concat": fields}), json!("@guests"));
    let frame = || payload("ether", "saddr");
    for expression in [
        vec![from_tap(), one_of([meta("iifname"), frame(), payload("ip", "saddr")]), accept()],
        vec![
            from_tap(),
            // Both the frame and what the request inside says must be the guest's own.
            one_of([meta("iifname"), frame(), payload("arp", "saddr ip")]),
            one_of([meta("iifname"), payload("arp", "saddr ether"), payload("arp", "saddr ip")]),
            accept(),
        ],
        vec![from_tap(), drop()],
    ] {
        batch.push(rule("bridge", "guests", expression));
    }
}

fn render_inet(network: &Network, ledger: &Ledger, batch: &mut Vec<Value>) {
    let gateway = network.subnet.gateway().to_string();
    let from = || equal(meta("iifname"), json!(network.bridge));
    let to = || equal(meta("oifname"), json!(network.bridge));
    let beyond = || json!({"match": {"op": "!=", "left": meta("oifname"), "right": network.bridge}});
    let to_gateway = || equal(payload("ip", "daddr"), json!(gateway));
    let may_leave = || equal(payload("ip", "saddr"), json!("@nat"));
    let answers =
        || json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}});
    let nat = ledger.vms().filter(|(_, holdings)| holdings.nat).filter_map(|(_, holdings)| holdings.link);
    batch.push(set("inet", "nat", &json!("ipv4_addr"), nat.map(|address| json!(address.to_string())).collect()));

    batch.push(chain("inet", "dns", &json!({"type": "nat", "hook": "prerouting", "prio": -100})));
    batch.push(chain("inet", "input", &json!({"type": "filter", "hook": "input", "prio": 0})));
    batch.push(chain("inet", "forward", &json!({"type": "filter", "hook": "forward", "prio": 0})));
    batch.push(chain("inet", "postrouting", &json!({"type": "nat", "hook": "postrouting", "prio": 100})));

    let mut add = |chain: &str, expression| batch.push(rule("inet", chain, expression));
    for protocol in ["udp", "tcp"] {
        let asked = equal(payload(protocol, "dport"), json!(DNS));
        add("dns", vec![from(), to_gateway(), asked, json!({"redirect": {"port": DNS_PORT}})]);
    }
    add("input", vec![from(), answers(), accept()]);
    for protocol in ["udp", "tcp"] {
        add("input", vec![from(), to_gateway(), equal(payload(protocol, "dport"), json!(DNS_PORT)), accept()]);
    }
    add("input", vec![from(), to_gateway(), equal(payload("icmp", "type"), json!("echo-request")), accept()]);
    add("input", vec![from(), drop()]);
    // Answers need nat too: switching it off ends what was begun.
    add("forward", vec![from(), beyond(), may_leave(), accept()]);
    add("forward", vec![from(), drop()]);
    add("forward", vec![to(), equal(payload("ip", "daddr"), json!("@nat")), answers(), accept()]);
    add("forward", vec![to(), drop()]);
    add("postrouting", vec![may_leave(), beyond(), json!({"masquerade": null})]);
}

fn set(family: &str, name: &str, kind: &Value, elements: Vec<Value>) -> Value {
    let mut set = json!({"family": family, "table": TABLE, "name": name, "type": kind});
    if !elements.is_empty() {
        set["elem"] = Value::Array(elements);
    }
    json!({"add": {"set": set}})
}

fn chain(family: &str, name: &str, hook: &Value) -> Value {
    json!({"add": {"chain": {
        "family": family, "table": TABLE, "name": name, "policy": "accept",
        "type": hook["type"], "hook": hook["hook"], "prio": hook["prio"],
    }}})
}

fn rule(family: &str, chain: &str, expression: Vec<Value>) -> Value {
    json!({"add": {"rule": {"family": family, "table": TABLE, "chain": chain, "expr": expression}}})
}

fn equal(left: Value, right: Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn accept() -> Value {
    json!({"accept": null})
}

fn drop() -> Value {
    json!({"drop": null})
}

#[cfg(test)]
mod tests;
