//! May this caller have this operation now? Pure: who asked, what exists, one answer.
//!
//! The only maker of [`Permit`]s. What a request *says* was checked in [`request`](crate::request).

use std::net::Ipv4Addr;

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::{Install, Subnet};
use banger_proto::names::VmId;

use crate::caller::Caller;
use crate::ledger::{Ledger, RootDisk};
use crate::permit::Permit;
use crate::request::Operation;

/// What a decision depends on besides the request and who asked.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Whose installation it is and where its guests live.
    pub install: &'a Install,
    /// What exists.
    pub ledger: &'a Ledger,
}

/// Why an operation is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Neither root nor the owner.
    #[error("uid {uid} may not use the helper")]
    NotTheOwner {
        /// Who asked.
        uid: u32,
    },
    /// An address no guest of this installation can have.
    #[error("{address} is not the address of a guest in {subnet}")]
    Address {
        /// What was asked for.
        address: Ipv4Addr,
        /// The guests' network.
        subnet: Subnet,
    },
    /// The helper made nothing for that VM.
    #[error("the helper has made nothing for the VM {vm}")]
    UnknownVm {
        /// Which VM.
        vm: VmId,
    },
    /// What the operation makes exists already.
    #[error("the VM {vm} already has {what}")]
    Exists {
        /// Which VM.
        vm: VmId,
        /// "a root disk" …
        what: &'static str,
    },
    /// What the operation builds on does not exist.
    #[error("the VM {vm} has no {what} yet")]
    Missing {
        /// Which VM.
        vm: VmId,
        /// "root disk" …
        what: &'static str,
    },
    /// Another VM has that address.
    #[error("{address} belongs to the VM {owner}")]
    AddressTaken {
        /// What was asked for.
        address: Ipv4Addr,
        /// Who has it.
        owner: VmId,
    },
}

impl Classified for Denied {
    fn kind(&self) -> Kind {
        match self {
            Self::NotTheOwner { .. } => Kind::Refused,
            Self::Address { .. } => Kind::Usage,
            Self::UnknownVm { .. } => Kind::NotFound,
            Self::Exists { .. } | Self::Missing { .. } | Self::AddressTaken { .. } => Kind::Conflict,
        }
    }
}

/// Decides.
///
/// # Errors
/// [`Denied`]: the first reason against it.
pub fn decide(caller: Caller, scope: Scope<'_>, operation: Operation) -> Result<Permit, Denied> {
    if caller.uid() != 0 && caller.uid() != scope.install.owner.uid {
        return Err(Denied::NotTheOwner { uid: caller.uid() });
    }
    let ledger = scope.ledger;
    let known = |vm: &VmId| ledger.holdings(vm).ok_or_else(|| Denied::UnknownVm { vm: vm.clone() });
    match &operation {
        Operation::EnsureNetwork | Operation::SetResolver { .. } | Operation::Inventory => {}
        Operation::AttachLink { vm, address } => decide_link(scope, vm, *address)?,
        Operation::CreateRootDisk { vm, image, build, copy_on_write_mib } => {
            let disk = ledger.holdings(vm).and_then(|holdings| holdings.root_disk.as_ref());
            let is_same = |disk: &RootDisk| {
                disk.image == *image && disk.build == *build && disk.copy_on_write_mib == *copy_on_write_mib
            };
            if disk.is_some_and(|disk| !is_same(disk)) {
                return Err(Denied::Exists { vm: vm.clone(), what: "another root disk" });
            }
        }
        Operation::SetNat { vm, .. } => {
            if known(vm)?.link.is_none() {
                return Err(Denied::Missing { vm: vm.clone(), what: "link" });
            }
        }
        Operation::LaunchVm { vm, .. } => {
            let holdings = known(vm)?;
            if holdings.is_launched() {
                return Err(Denied::Exists { vm: vm.clone(), what: "a running machine monitor" });
            }
            if holdings.root_disk.is_none() {
                return Err(Denied::Missing { vm: vm.clone(), what: "root disk" });
            }
            if holdings.link.is_none() {
                return Err(Denied::Missing { vm: vm.clone(), what: "link" });
            }
        }
        Operation::DetachLink { vm } | Operation::SignalVm { vm, .. } | Operation::TeardownVm { vm } => {
            known(vm)?;
        }
    }
    Ok(Permit::grant(operation))
}

fn decide_link(scope: Scope<'_>, vm: &VmId, address: Ipv4Addr) -> Result<(), Denied> {
    let subnet = scope.install.network.subnet;
    if !subnet.is_guest(address) {
        return Err(Denied::Address { address, subnet });
    }
    if scope.ledger.holdings(vm).and_then(|holdings| holdings.link).is_some_and(|present| present != address) {
        return Err(Denied::Exists { vm: vm.clone(), what: "a link with another address" });
    }
    if let Some(owner) = scope.ledger.address_owner(address).filter(|owner| *owner != vm) {
        return Err(Denied::AddressTaken { address, owner: owner.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
