//! How full the copy-on-write store of a root disk is, and when that is worth saying. Pure.

use std::collections::BTreeMap;

use banger_proto::names::VmId;
use banger_proto::root::v1::VmHoldings;

use crate::platform::Notice;

const MIB: u64 = 1 << 20;
/// dm-snapshot's chunk: eight sectors.
const CHUNK: u64 = 4096;
/// Exceptions in one chunk of the store's index.
const EXCEPTIONS_PER_CHUNK: u64 = CHUNK / 16;

/// A store with room for every chunk of a disk of `bytes`, and their index: it is the host's disk that fills, not this.
pub fn store_mib(bytes: u64) -> u64 {
    let chunks = bytes.div_ceil(CHUNK);
    let index = chunks.div_ceil(EXCEPTIONS_PER_CHUNK) + 2;
    ((chunks + index) * CHUNK).div_ceil(MIB)
}

/// What was last told of each VM.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<VmId, Level>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Fine,
    Filling,
    NearlyFull,
    Full,
}

impl Told {
    /// What is new and worth telling. A store never gets emptier, so each level is told once.
    pub fn news(&mut self, holdings: &[VmHoldings]) -> Vec<Notice> {
        let known = |vm: &VmId| holdings.iter().any(|held| held.vm_id == vm.as_str() && held.pid != 0);
        self.0.retain(|vm, _| known(vm));
        holdings.iter().filter(|held| held.pid != 0).filter_map(|held| self.look(held)).collect()
    }

    fn look(&mut self, held: &VmHoldings) -> Option<Notice> {
        let (used, total) = (held.copy_on_write_used_sectors, held.copy_on_write_total_sectors);
        let vm: VmId = held.vm_id.parse().ok()?;
        let level = level(used, total)?;
        let before = self.0.insert(vm.clone(), level).unwrap_or(Level::Fine);
        let percent = used.saturating_mul(100) / total;
        let text = match level {
            _ if level <= before => return None,
            Level::Fine => return None,
            Level::Filling | Level::NearlyFull => {
                format!("the changes to its root disk fill {percent} % of their store; keep large files below /root")
            }
            Level::Full => {
                "the store of the changes to its root disk is full: its root disk is no longer usable".into()
            }
        };
        Some(Notice { vm, text })
    }
}

fn level(used: u64, total: u64) -> Option<Level> {
    (total > 0).then(|| match used.saturating_mul(100) / total {
        0..80 => Level::Fine,
        80..95 => Level::Filling,
        95..100 => Level::NearlyFull,
        _ => Level::Full,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(used: u64) -> VmHoldings {
        VmHoldings {
            vm_id: "1".repeat(32),
            pid: 1,
            copy_on_write_used_sectors: used,
            copy_on_write_total_sectors: 1000,
            ..VmHoldings::default()
        }
    }

    #[test]
    fn each_level_is_told_once_and_again_after_a_restart() {
        let mut told = Told::default();
        let mut count = |used| told.news(&[held(used)]).len();
        assert_eq!([10, 799, 800, 900, 950, 960, 1000, 1000].map(&mut count), [0, 0, 1, 0, 1, 0, 1, 0]);
        told.news(&[VmHoldings { pid: 0, ..held(0) }]);
        assert_eq!(told.news(&[held(900)]).len(), 1);
        assert!(told.news(&[VmHoldings { copy_on_write_total_sectors: 0, ..held(0) }]).is_empty());
    }

    #[test]
    fn a_store_has_room_for_a_whole_disk_and_its_index() {
        assert_eq!(store_mib(0), 1);
        // 8 GiB are 2 097 152 chunks, whose index takes 8192 more.
        assert_eq!(store_mib(8 << 30), 8192 + 32 + 1);
    }
}
