//! The fuzz target's corpus (root-helper/fuzz), run on a stable compiler with mutations of our own.

use std::collections::BTreeSet;
use std::fs;
use std::mem::discriminant;

use super::*;

const MUTATIONS: usize = 200_000;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/parse-request");
    let entries = fs::read_dir(directory).expect("the corpus is there");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            (name, fs::read(path).expect("readable"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_corpus_has_every_operation_and_what_must_be_refused() {
    let mut seen = Vec::new();
    for (name, bytes) in corpus() {
        let parsed = parse(&bytes);
        assert_eq!(parsed.is_ok(), name.starts_with("good-"), "{name}: {parsed:?}");
        seen.extend(parsed.map(|request| discriminant(&request.operation)));
    }
    let kinds = seen.len();
    seen.sort_by_key(|kind| format!("{kind:?}"));
    seen.dedup();
    assert_eq!((seen.len(), kinds), (10, 10), "one file for each operation");
}

#[test]
fn no_mutation_of_the_corpus_makes_the_parser_panic_or_break_a_promise() {
    let corpus = corpus();
    let mut state = 20_261_124_u64;
    let mut random = move |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % limit.max(1)
    };
    let mut outcomes = BTreeSet::new();
    for _ in 0..MUTATIONS {
        let mut bytes = corpus[random(corpus.len())].1.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << random(8),
                1 if !bytes.is_empty() => bytes[at] = u8::try_from(random(256)).expect("a byte"),
                2 => bytes.insert(at, u8::try_from(random(256)).expect("a byte")),
                3 => bytes.truncate(at),
                _ => bytes.extend_from_slice(&corpus[random(corpus.len())].1),
            }
        }
        match parse(&bytes) {
            Ok(request) => {
                assert!((1..=64).contains(&request.operation_id.len()));
                let is_id = |vm: &VmId| vm.as_str().len() == 32 && !vm.as_str().contains(['/', '.', '\0']);
                assert!(request.operation.vm().is_none_or(is_id), "{request:?}");
                outcomes.insert("request".to_owned());
            }
            Err(error) => _ = outcomes.insert(format!("{:?}", discriminant(&error))),
        }
    }
    // Every way to be refused, and being understood: else the mutations would miss what they are for.
    assert!(outcomes.len() >= 8, "{outcomes:?}");
}

/// Writes the corpus anew: `cargo test -p bangerd-root -- --ignored the_corpus_is_written`, when the messages change.
#[test]
#[ignore = "writes into the sources"]
fn the_corpus_is_written() {
    let vm_id = || VM.to_owned();
    let build = || BUILD.to_owned();
    let disk = |image_name: &str, copy_on_write_mib| {
        let image_name = image_name.to_owned();
        Wire::CreateRootDisk(wire::CreateRootDisk {
            vm_id: vm_id(),
            image_name,
            image_build: build(),
            copy_on_write_mib,
        })
    };
    let machine = |vcpu_count, memory_mib| {
        let kernel_name = "generic-6.12".to_owned();
        Wire::LaunchVm(wire::LaunchVm { vm_id: vm_id(), kernel_name, kernel_build: build(), vcpu_count, memory_mib })
    };
    let signal = |signal| Wire::SignalVm(wire::SignalVm { vm_id: vm_id(), signal });
    let teardown = |vm_id: &str| Wire::TeardownVm(wire::TeardownVm { vm_id: vm_id.to_owned() });
    for (name, operation) in [
        ("good-ensure-network", Wire::EnsureNetwork(wire::EnsureNetwork {})),
        ("good-attach-link", Wire::AttachLink(wire::AttachLink { vm_id: vm_id(), address: 0xac10_0002 })),
        ("good-detach-link", Wire::DetachLink(wire::DetachLink { vm_id: vm_id() })),
        ("good-set-nat", Wire::SetNat(wire::SetNat { vm_id: vm_id(), enabled: true })),
        ("good-set-resolver", Wire::SetResolver(wire::SetResolver { enabled: true })),
        ("good-create-root-disk", disk("debian-bookworm", 2048)),
        ("good-launch-vm", machine(2, 1024)),
        ("good-signal-vm", signal(1)),
        ("good-teardown-vm", teardown(VM)),
        ("good-inventory", Wire::Inventory(wire::Inventory {})),
        ("bad-path", teardown("../../etc/passwd")),
        ("bad-image", disk("../debian", 1)),
        ("bad-disk", disk("debian-bookworm", u64::MAX)),
        ("bad-machine", machine(u32::MAX, u64::MAX)),
        ("bad-signal", signal(9)),
    ] {
        write(name, &request(operation).encode_to_vec());
    }
    let mut forged = request(Wire::Inventory(wire::Inventory {}));
    forged.operation_id = "op\n<0>forged".to_owned();
    write("bad-operation-id", &forged.encode_to_vec());
    let mut later = request(Wire::Inventory(wire::Inventory {}));
    later.version = VERSION + 1;
    write("bad-version", &later.encode_to_vec());
    write("bad-nothing", &wire::Request { operation: None, ..request(teardown(VM)) }.encode_to_vec());
    write("bad-length", &[0; LIMIT + 1]);
    write("bad-bytes", &[0xff; 64]);
}

fn write(name: &str, bytes: &[u8]) {
    let path = format!("{}/fuzz/corpus/parse-request/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::write(path, bytes).expect("writable");
}
