//! What the helper created, by VM. Teardown can only touch what is written here.
//!
//! In this build the ledger is the pure record that [`policy`](crate::policy) reads; its file, written before
//! the kernel is asked and replayed at start, comes with the operations.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use banger_proto::names::VmId;

/// What exists for one VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Address of its link, if it has one.
    pub link: Option<Ipv4Addr>,
    /// Its root disk exists.
    pub root_disk: bool,
    /// Its machine monitor was launched and has not been seen to end.
    pub launched: bool,
}

/// Everything the helper created and has not taken away again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    vms: BTreeMap<VmId, Holdings>,
}

impl Ledger {
    /// What exists for this VM; `None` if the helper never made anything for it.
    pub fn holdings(&self, vm: &VmId) -> Option<&Holdings> {
        self.vms.get(vm)
    }

    /// The entry of this VM, made empty if there was none.
    pub fn entry(&mut self, vm: VmId) -> &mut Holdings {
        self.vms.entry(vm).or_default()
    }

    /// The VM that has this address, if any.
    pub fn address_owner(&self, address: Ipv4Addr) -> Option<&VmId> {
        self.vms.iter().find(|(_, holdings)| holdings.link == Some(address)).map(|(vm, _)| vm)
    }
}
