//! What can be asked for and who may ask, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use banger_proto::install::Subnet;

use crate::vm::Vms;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Where guests live.
    pub subnet: Subnet,
    /// Name and address of each running VM.
    pub vms: BTreeMap<String, Ipv4Addr>,
    /// Those of them that may reach the outside.
    pub nat: BTreeSet<Ipv4Addr>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Programs of this host.
    Host,
    /// The guest with this address.
    Guest(Ipv4Addr),
    /// Nobody who is answered.
    Stranger,
}

impl Table {
    /// As it is now.
    pub fn observe(vms: &Vms, subnet: Subnet) -> Self {
        let mut table = Self { subnet, vms: BTreeMap::new(), nat: BTreeSet::new() };
        for snapshot in vms.list().iter().filter(|snapshot| snapshot.is_alive()) {
            let Some(address) = snapshot.record.address else { continue };
            table.vms.insert(snapshot.record.name.to_string(), address);
            if snapshot.record.spec.nat {
                table.nat.insert(address);
            }
        }
        table
    }

    /// Who has this address. The host asks itself from the gateway's address or from loopback.
    pub fn client(&self, address: IpAddr) -> Client {
        match address {
            IpAddr::V4(address) if address == self.subnet.gateway() || address.is_loopback() => Client::Host,
            IpAddr::V4(address) if self.subnet.is_guest(address) => Client::Guest(address),
            IpAddr::V4(_) | IpAddr::V6(_) => Client::Stranger,
        }
    }
}
