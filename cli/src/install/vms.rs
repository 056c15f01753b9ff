//! Whether there are VMs, told by what lies on disk: it holds while no service runs.

use std::collections::BTreeSet;

use banger_proto::install::{HELPER_STATE_DIRECTORY, STATE_DIRECTORY};
use banger_proto::names::VmId;

use super::host::Host;

/// Ids of VMs the daemon has a directory for, or the helper a ledger entry.
pub fn on_disk(host: &Host) -> BTreeSet<String> {
    let directories = names(host, &format!("{STATE_DIRECTORY}/vms"));
    let ledger = names(host, &format!("{HELPER_STATE_DIRECTORY}/ledger"));
    let ledger = ledger.iter().filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
    directories.iter().cloned().chain(ledger).filter(|name| name.parse::<VmId>().is_ok()).collect()
}

fn names(host: &Host, directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(host.at(directory)).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_counts_once_wherever_it_left_something() {
        let scratch = tempfile::tempdir().unwrap();
        let host = Host::below(scratch.path());
        assert!(on_disk(&host).is_empty());
        let (one, two) = ("a".repeat(32), "b".repeat(32));
        std::fs::create_dir_all(host.at(format!("{STATE_DIRECTORY}/vms/{one}"))).unwrap();
        std::fs::create_dir_all(host.at(format!("{HELPER_STATE_DIRECTORY}/ledger"))).unwrap();
        for name in [&one, &two, &"network".to_owned()] {
            std::fs::write(host.at(format!("{HELPER_STATE_DIRECTORY}/ledger/{name}.json")), "{}").unwrap();
        }
        assert_eq!(on_disk(&host), BTreeSet::from([one, two]));
    }
}
