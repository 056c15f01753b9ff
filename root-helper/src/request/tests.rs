//! Table and byte-level tests of the parser.

mod corpus;

use super::*;
use wire::request::Operation as Wire;

const VM: &str = "0123456789abcdef0123456789abcdef";
const BUILD: &str = "fedcba9876543210fedcba9876543210";

fn request(operation: Wire) -> wire::Request {
    wire::Request { version: VERSION, operation_id: "op-1".into(), operation: Some(operation) }
}

fn parsed(operation: Wire) -> Result<Operation, InvalidRequest> {
    parse(&request(operation).encode_to_vec()).map(|request| request.operation)
}

fn launch(vcpu_count: u32, memory_mib: u64) -> Result<Operation, InvalidRequest> {
    parsed(Wire::LaunchVm(wire::LaunchVm {
        vm_id: VM.into(),
        kernel_name: "generic-6.12".into(),
        kernel_build: BUILD.into(),
        vcpu_count,
        memory_mib,
    }))
}

#[test]
fn every_operation_is_understood() {
    let vm: VmId = VM.parse().expect("an id");
    let vm_id = || VM.to_owned();
    for (wire, expected) in [
        (Wire::EnsureNetwork(wire::EnsureNetwork {}), Operation::EnsureNetwork),
        (
            Wire::AttachLink(wire::AttachLink { vm_id: vm_id(), address: 0xac1e_0002 }),
            Operation::AttachLink { vm: vm.clone(), address: Ipv4Addr::new(172, 30, 0, 2) },
        ),
        (Wire::DetachLink(wire::DetachLink { vm_id: vm_id() }), Operation::DetachLink { vm: vm.clone() }),
        (
            Wire::SetNat(wire::SetNat { vm_id: vm_id(), enabled: true }),
            Operation::SetNat { vm: vm.clone(), nat: Switch::On },
        ),
        (Wire::SetResolver(wire::SetResolver { enabled: false }), Operation::SetResolver { resolver: Switch::Off }),
        (
            Wire::CreateRootDisk(wire::CreateRootDisk {
                vm_id: vm_id(),
                image_name: "debian-bookworm".into(),
                image_build: BUILD.into(),
                copy_on_write_mib: 2048,
            }),
            Operation::CreateRootDisk {
                vm: vm.clone(),
                image: "debian-bookworm".parse().expect("a name"),
                build: BUILD.parse().expect("an id"),
                copy_on_write_mib: 2048,
            },
        ),
        (
            Wire::LaunchVm(wire::LaunchVm {
                vm_id: vm_id(),
                kernel_name: "generic-6.12".into(),
                kernel_build: BUILD.into(),
                vcpu_count: 2,
                memory_mib: 1024,
            }),
            Operation::LaunchVm {
                vm: vm.clone(),
                machine: Machine {
                    kernel: "generic-6.12".parse().expect("a name"),
                    build: BUILD.parse().expect("an id"),
                    vcpus: 2,
                    memory_mib: 1024,
                    root_device: None,
                    process: None,
                },
            },
        ),
        (
            Wire::SignalVm(wire::SignalVm { vm_id: vm_id(), signal: wire::Signal::Kill.into() }),
            Operation::SignalVm { vm: vm.clone(), signal: Signal::Kill },
        ),
        (Wire::TeardownVm(wire::TeardownVm { vm_id: vm_id() }), Operation::TeardownVm { vm }),
        (Wire::Inventory(wire::Inventory {}), Operation::Inventory),
    ] {
        assert_eq!(parsed(wire), Ok(expected));
    }
}

#[test]
fn an_id_that_could_become_a_path_or_a_name_is_refused() {
    for id in ["", "box", "../../../../../../../../etc/passwd", &VM[1..], &VM.to_uppercase(), &format!("{VM}\0")] {
        let outcome = parsed(Wire::TeardownVm(wire::TeardownVm { vm_id: id.into() }));
        assert!(matches!(outcome, Err(InvalidRequest::Name { .. })), "{id:?} gave {outcome:?}");
    }
}

#[test]
fn a_build_that_could_become_a_path_is_refused() {
    for build in ["", "..", "../../../../etc", &BUILD[1..], &format!("{BUILD}/x")] {
        let outcome = parsed(Wire::CreateRootDisk(wire::CreateRootDisk {
            vm_id: VM.into(),
            image_name: "debian-bookworm".into(),
            image_build: build.into(),
            copy_on_write_mib: 1,
        }));
        assert!(matches!(outcome, Err(InvalidRequest::Name { .. })), "{build:?} gave {outcome:?}");
    }
}

#[test]
fn numbers_outside_their_bounds_are_refused() {
    assert!(launch(1, 1).is_ok());
    assert!(launch(MAX_VCPUS, MAX_MEMORY_MIB).is_ok());
    for (vcpus, memory) in [(0, 1024), (MAX_VCPUS + 1, 1024), (1, 0), (1, MAX_MEMORY_MIB + 1), (u32::MAX, u64::MAX)] {
        let outcome = launch(vcpus, memory);
        assert!(matches!(outcome, Err(InvalidRequest::OutOfRange { .. })), "{vcpus} {memory} gave {outcome:?}");
    }
}

#[test]
fn an_unknown_signal_is_no_signal() {
    for signal in [0, 3, 9, 15, i32::MAX, -1] {
        let outcome = parsed(Wire::SignalVm(wire::SignalVm { vm_id: VM.into(), signal }));
        assert_eq!(outcome, Err(InvalidRequest::Signal), "{signal}");
    }
}

#[test]
fn another_version_is_refused_before_anything_else_is_looked_at() {
    let mut later = request(Wire::TeardownVm(wire::TeardownVm { vm_id: "nonsense".into() }));
    later.version = VERSION + 1;
    assert_eq!(parse(&later.encode_to_vec()), Err(InvalidRequest::Version { version: VERSION + 1 }));
    assert_eq!(parse(&[]), Err(InvalidRequest::Version { version: 0 }));
}

#[test]
fn an_operation_id_cannot_forge_a_log_line() {
    for id in ["", "op\nroot did it", "OP", &"x".repeat(65)] {
        let mut forged = request(Wire::Inventory(wire::Inventory {}));
        forged.operation_id = id.into();
        assert_eq!(parse(&forged.encode_to_vec()), Err(InvalidRequest::OperationId { text: id.into() }));
    }
}

#[test]
fn a_request_without_an_operation_is_refused() {
    let empty = wire::Request { version: VERSION, operation_id: "op-1".into(), operation: None };
    assert_eq!(parse(&empty.encode_to_vec()), Err(InvalidRequest::NoOperation));
}

#[test]
fn no_bytes_make_the_parser_panic() {
    let valid = request(Wire::SetNat(wire::SetNat { vm_id: VM.into(), enabled: true })).encode_to_vec();
    for length in 0..=valid.len() {
        let _ = parse(&valid[..length]);
    }
    for position in 0..valid.len() {
        for value in 0..=u8::MAX {
            let mut changed = valid.clone();
            changed[position] = value;
            let _ = parse(&changed);
        }
    }
    assert_eq!(parse(&vec![0; LIMIT + 1]), Err(InvalidRequest::TooLong { length: LIMIT + 1 }));
}
