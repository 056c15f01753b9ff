//! Whether names of VMs are served and this host finds them: by resolving one, as any program would.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use banger_proto::install::DOMAIN;

use super::Finding;
use crate::vm::Vms;

const TITLE: &str = "resolving a VM's name";
/// The resolver's own patience is shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nothing, where VMs have no addresses.
pub(super) async fn examine(vms: &Vms) -> Vec<Finding> {
    let host = vms.host();
    let mut findings = Vec::new();
    if host.platform.address_pool().is_none() {
        return findings;
    }
    if let Some(problem) = &host.names_problem {
        findings.push(Finding::warn("server for names of VMs", problem.to_string(), problem.hints.join(" ")));
    }
    let running = vms.list().into_iter().find_map(|snapshot| {
        let address = snapshot.record.address.filter(|_| snapshot.is_alive())?;
        Some((format!("{}.{DOMAIN}", snapshot.record.name), address))
    });
    if let Some((name, address)) = running {
        findings.push(resolve(&name, address).await);
    }
    findings
}

async fn resolve(name: &str, address: Ipv4Addr) -> Finding {
    let hint = format!("See how it is resolved with `resolvectl query {name}`; until then use the address {address}.");
    let resolved = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name, 0))).await;
    match resolved {
        Ok(Ok(mut found)) => match found.find(|found| found.ip() == IpAddr::V4(address)) {
            Some(_) => Finding::pass(TITLE, format!("{name} is {address}")),
            None => Finding::fail(TITLE, format!("{name} is not {address} for programs of this host"), hint),
        },
        Ok(Err(error)) => Finding::fail(TITLE, format!("{name} cannot be resolved: {error}"), hint),
        Err(_) => Finding::fail(TITLE, format!("{name} is not resolved in time"), hint),
    }
}
