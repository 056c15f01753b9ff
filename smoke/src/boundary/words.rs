//! Words of a script → one request. Pure; says what it expected.

use banger_proto::root::v1 as wire;
use wire::request::Operation;

/// The words that are understood.
pub const USAGE: &str = "\
banger-boundary ensure-network
banger-boundary attach-link VM ADDRESS
banger-boundary detach-link VM
banger-boundary set-nat VM on|off
banger-boundary set-resolver on|off
banger-boundary create-root-disk VM IMAGE@BUILD MIB
banger-boundary launch-vm VM KERNEL@BUILD VCPUS MIB
banger-boundary signal-vm VM terminate|kill
banger-boundary teardown-vm VM
banger-boundary inventory
banger-boundary hammer FRAMES SEED [VM ...]
banger-boundary flood CONNECTIONS
banger-boundary kill-after MILLISECONDS PID WORDS ...
";

/// The operation that the words mean.
pub fn parse(words: &[&str]) -> Option<Operation> {
    let vm_id = || words.get(1).map(|vm| (*vm).to_owned());
    Some(match words {
        ["ensure-network"] => Operation::EnsureNetwork(wire::EnsureNetwork {}),
        ["attach-link", _, address] => {
            let address: std::net::Ipv4Addr = address.parse().ok()?;
            Operation::AttachLink(wire::AttachLink { vm_id: vm_id()?, address: address.to_bits() })
        }
        ["detach-link", _] => Operation::DetachLink(wire::DetachLink { vm_id: vm_id()? }),
        ["set-nat", _, state] => Operation::SetNat(wire::SetNat { vm_id: vm_id()?, enabled: parse_switch(state)? }),
        ["set-resolver", state] => Operation::SetResolver(wire::SetResolver { enabled: parse_switch(state)? }),
        ["create-root-disk", _, image, mib] => {
            let (image_name, image_build) = parse_build(image)?;
            Operation::CreateRootDisk(wire::CreateRootDisk {
                vm_id: vm_id()?,
                image_name,
                image_build,
                copy_on_write_mib: mib.parse().ok()?,
            })
        }
        ["launch-vm", _, kernel, vcpus, mib] => {
            let (kernel_name, kernel_build) = parse_build(kernel)?;
            Operation::LaunchVm(wire::LaunchVm {
                vm_id: vm_id()?,
                kernel_name,
                kernel_build,
                vcpu_count: vcpus.parse().ok()?,
                memory_mib: mib.parse().ok()?,
            })
        }
        ["signal-vm", _, signal] => {
            let signal = match *signal {
                "terminate" => wire::Signal::Terminate,
                "kill" => wire::Signal::Kill,
                _ => return None,
            };
            Operation::SignalVm(wire::SignalVm { vm_id: vm_id()?, signal: signal.into() })
        }
        ["teardown-vm", _] => Operation::TeardownVm(wire::TeardownVm { vm_id: vm_id()? }),
        ["inventory"] => Operation::Inventory(wire::Inventory {}),
        _ => return None,
    })
}

fn parse_switch(word: &str) -> Option<bool> {
    match word {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn parse_build(word: &str) -> Option<(String, String)> {
    word.split_once('@').map(|(name, build)| (name.to_owned(), build.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_can_be_said() {
        let more = ["hammer", "flood", "kill-after"];
        for line in USAGE.lines().filter(|line| !more.iter().any(|word| line.contains(word))) {
            let line = line.replace("on|off", "on").replace("terminate|kill", "kill").replace("ADDRESS", "172.16.0.2");
            let line = line.replace("VCPUS", "1").replace("MIB", "1");
            let words: Vec<&str> = line.split(' ').skip(1).collect();
            assert!(parse(&words).is_some(), "{line}");
        }
        assert_eq!(parse(&["set-nat", "vm", "maybe"]), None);
        assert_eq!(parse(&[]), None);
    }
}
