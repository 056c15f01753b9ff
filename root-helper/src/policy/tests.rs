//! Table tests of the decisions.

use super::*;
use crate::ledger::tests::full_holdings;
use crate::ledger::{Holdings, Machine};
use crate::request::{Signal, Switch};

const OWNER: u32 = 1000;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);

fn install() -> Install {
    let text = "[owner]\nname='dev'\nuid=1000\ngid=1000\nhome='/home/dev'\n[build]\nversion='1'\ncommit='c'\n\
                installed_unix_s=1\nupdated_unix_s=1\n[network]\nbridge='br-fc'\nsubnet='172.16.0.0/24'\n";
    Install::parse(text, std::path::Path::new("install.toml")).expect("valid")
}

fn vm(last: char) -> VmId {
    format!("{last}{}", "0".repeat(31)).parse().expect("an id")
}

fn machine() -> Machine {
    Machine { process: None, root_device: None, ..full_holdings().machine.expect("it is full") }
}

fn launch(vm: VmId) -> Operation {
    Operation::LaunchVm { vm, machine: machine() }
}

fn attach(vm: VmId, address: impl Into<Ipv4Addr>) -> Operation {
    Operation::AttachLink { vm, address: address.into() }
}

fn decided(ledger: &Ledger, operation: Operation) -> Result<Operation, Denied> {
    let install = install();
    decide(Caller::with_uid(OWNER), Scope { install: &install, ledger }, operation).map(Permit::into_operation)
}

#[test]
fn only_root_and_the_owner_may_ask() {
    let install = install();
    for (uid, allowed) in [(0, true), (OWNER, true), (1001, false), (u32::MAX, false)] {
        let scope = Scope { install: &install, ledger: &Ledger::default() };
        let outcome = decide(Caller::with_uid(uid), scope, Operation::Inventory);
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
    *ledger.entry(vm('1')) = Holdings { intent: None, ..Holdings::default() };
    assert_eq!(decided(&ledger, launch(vm('1'))), Err(Denied::Missing { vm: vm('1'), what: "root disk" }));
    ledger.entry(vm('1')).root_disk = full_holdings().root_disk;
    assert_eq!(decided(&ledger, launch(vm('1'))), Err(Denied::Missing { vm: vm('1'), what: "link" }));
    ledger.entry(vm('1')).link = Some(ADDRESS);
    assert_eq!(decided(&ledger, launch(vm('1'))), Ok(launch(vm('1'))));
    ledger.entry(vm('1')).machine = full_holdings().machine;
    assert!(matches!(decided(&ledger, launch(vm('1'))), Err(Denied::Exists { .. })));
}

#[test]
fn only_addresses_a_guest_of_this_installation_can_have() {
    for good in [[172, 16, 0, 2], [172, 16, 0, 254]] {
        assert!(decided(&Ledger::default(), attach(vm('1'), good)).is_ok(), "{good:?}");
    }
    for bad in [[172, 16, 0, 0], [172, 16, 0, 1], [172, 16, 0, 255], [172, 16, 1, 2], [127, 0, 0, 1], [0, 0, 0, 0]] {
        let outcome = decided(&Ledger::default(), attach(vm('1'), bad));
        assert!(matches!(outcome, Err(Denied::Address { .. })), "{bad:?}");
    }
}

#[test]
fn one_address_belongs_to_one_vm_and_one_vm_has_one() {
    let mut ledger = Ledger::default();
    ledger.entry(vm('1')).link = Some(ADDRESS);
    let taken = decided(&ledger, attach(vm('2'), ADDRESS));
    assert_eq!(taken, Err(Denied::AddressTaken { address: ADDRESS, owner: vm('1') }));
    assert!(decided(&ledger, attach(vm('2'), [172, 16, 0, 3])).is_ok());
    assert!(decided(&ledger, attach(vm('1'), ADDRESS)).is_ok(), "attaching again re-asserts");
    assert!(matches!(decided(&ledger, attach(vm('1'), [172, 16, 0, 3])), Err(Denied::Exists { .. })));
}

#[test]
fn a_root_disk_is_made_again_only_as_the_same() {
    let mut ledger = Ledger::default();
    let disk = full_holdings().root_disk.expect("it is full");
    ledger.entry(vm('1')).root_disk = Some(disk.clone());
    let create = |mib| Operation::CreateRootDisk {
        vm: vm('1'),
        image: disk.image.clone(),
        build: disk.build.clone(),
        copy_on_write_mib: mib,
    };
    assert!(decided(&ledger, create(disk.copy_on_write_mib)).is_ok());
    assert!(matches!(decided(&ledger, create(disk.copy_on_write_mib + 1)), Err(Denied::Exists { .. })));
}
