//! May this caller have this operation now? Pure: who asked, what exists, one answer.
//!
//! The only maker of [`Permit`]s. What a request *says* was checked in [`request`](crate::request).

use std::net::Ipv4Addr;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmId;

use crate::caller::Caller;
use crate::ledger::Ledger;
use crate::permit::Permit;
use crate::request::Operation;

/// The one user that may ask besides root; from the install metadata, never from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its user id.
    pub uid: u32,
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
            Self::UnknownVm { .. } => Kind::NotFound,
            Self::Exists { .. } | Self::Missing { .. } | Self::AddressTaken { .. } => Kind::Conflict,
        }
    }
}

/// Decides.
///
/// # Errors
/// [`Denied`]: the first reason against it.
pub fn decide(caller: Caller, owner: Owner, ledger: &Ledger, operation: Operation) -> Result<Permit, Denied> {
    if caller.uid() != 0 && caller.uid() != owner.uid {
        return Err(Denied::NotTheOwner { uid: caller.uid() });
    }
    let known = |vm: &VmId| ledger.holdings(vm).ok_or_else(|| Denied::UnknownVm { vm: vm.clone() });
    match &operation {
        Operation::EnsureNetwork | Operation::SetResolver { .. } | Operation::Inventory => {}
        Operation::AttachLink { vm, address } => {
            if ledger.holdings(vm).is_some_and(|holdings| holdings.link.is_some()) {
                return Err(Denied::Exists { vm: vm.clone(), what: "a link" });
            }
            if let Some(owner) = ledger.address_owner(*address) {
                return Err(Denied::AddressTaken { address: *address, owner: owner.clone() });
            }
        }
        Operation::CreateRootDisk { vm, .. } => {
            if ledger.holdings(vm).is_some_and(|holdings| holdings.root_disk) {
                return Err(Denied::Exists { vm: vm.clone(), what: "a root disk" });
            }
        }
        Operation::SetNat { vm, .. } => {
            if known(vm)?.link.is_none() {
                return Err(Denied::Missing { vm: vm.clone(), what: "link" });
            }
        }
        Operation::LaunchVm { vm, .. } => {
            let holdings = known(vm)?;
            if holdings.launched {
                return Err(Denied::Exists { vm: vm.clone(), what: "a running monitor" });
            }
            if !holdings.root_disk {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Signal, Switch};

    const OWNER: Owner = Owner { uid: 1000 };

    fn vm(last: char) -> VmId {
        format!("{}{last}", "0".repeat(31)).parse().expect("an id")
    }

    fn launch(vm: VmId) -> Operation {
        Operation::LaunchVm { vm, kernel: "generic-6.12".parse().expect("a name"), vcpus: 1, memory_mib: 512 }
    }

    fn decided(ledger: &Ledger, operation: Operation) -> Result<Operation, Denied> {
        decide(Caller::with_uid(OWNER.uid), OWNER, ledger, operation).map(Permit::into_operation)
    }

    #[test]
    fn only_root_and_the_owner_may_ask() {
        for (uid, allowed) in [(0, true), (OWNER.uid, true), (1001, false), (u32::MAX, false)] {
            let outcome = decide(Caller::with_uid(uid), OWNER, &Ledger::default(), Operation::Inventory);
            assert_eq!(outcome.is_ok(), allowed, "uid {uid}");
        }
    }

    #[test]
    fn what_the_helper_never_made_cannot_be_touched() {
        for operation in [
            Operation::TeardownVm { vm: vm('1') },
            Operation::DetachLink { vm: vm('1') },
            Operation::SignalVm { vm: vm('1'), signal: Signal::Kill },
            Operation::SetNat { vm: vm('1'), nat: Switch::On },
            launch(vm('1')),
        ] {
            assert_eq!(decided(&Ledger::default(), operation), Err(Denied::UnknownVm { vm: vm('1') }));
        }
    }

    #[test]
    fn a_vm_is_launched_once_and_only_with_disk_and_link() {
        let mut ledger = Ledger::default();
        ledger.entry(vm('1'));
        assert_eq!(decided(&ledger, launch(vm('1'))), Err(Denied::Missing { vm: vm('1'), what: "root disk" }));
        ledger.entry(vm('1')).root_disk = true;
        assert_eq!(decided(&ledger, launch(vm('1'))), Err(Denied::Missing { vm: vm('1'), what: "link" }));
        ledger.entry(vm('1')).link = Some(Ipv4Addr::new(172, 30, 0, 2));
        assert_eq!(decided(&ledger, launch(vm('1'))), Ok(launch(vm('1'))));
        ledger.entry(vm('1')).launched = true;
        assert!(matches!(decided(&ledger, launch(vm('1'))), Err(Denied::Exists { .. })));
    }

    #[test]
    fn one_address_belongs_to_one_vm() {
        let address = Ipv4Addr::new(172, 30, 0, 2);
        let mut ledger = Ledger::default();
        ledger.entry(vm('1')).link = Some(address);
        let taken = Operation::AttachLink { vm: vm('2'), address };
        assert_eq!(decided(&ledger, taken), Err(Denied::AddressTaken { address, owner: vm('1') }));
        let free = Operation::AttachLink { vm: vm('2'), address: Ipv4Addr::new(172, 30, 0, 3) };
        assert!(decided(&ledger, free).is_ok());
    }
}
