//! Frames that must be refused, made from a seed.

use banger_proto::root::v1 as wire;
use prost::Message as _;
use wire::request::Operation;

use crate::boundary::VERSION;

/// Longest request the helper reads.
const LIMIT: usize = 4096;
/// Every word that could mean something to a kernel, a shell, a path or a log.
const WORDS: [&str; 14] = [
    "",
    ".",
    "..",
    "../../../../../../etc/shadow",
    "/etc/shadow",
    "small@00000000000000000000000000000001/../../vms",
    "debian\0bookworm",
    "br-fc",
    "fc-aaaaaaaaaaaa",
    "$(reboot)",
    "`reboot`",
    "a\n<0>request op=forged decision=permit",
    "%s%n%s%n",
    "\u{202e}moorg",
];

/// An endless row of them.
#[derive(Debug)]
pub struct Frames {
    state: u64,
    known: Vec<String>,
}

impl Frames {
    /// The same row for the same seed.
    pub fn new(seed: u64, known: &[&str]) -> Self {
        Self { state: seed, known: known.iter().map(|vm| (*vm).to_owned()).collect() }
    }

    /// The next one; never empty, because an empty packet ends the connection.
    pub fn next(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => self.noise(),
            1 => self.too_long(),
            2 => self.wrong_envelope(),
            3 => self.wrong_words(),
            4 => self.wrong_numbers(),
            5 => self.foreign(),
            _ => self.mutated(),
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = 1 + self.below(LIMIT as u64);
        (0..length).map(|_| self.byte()).collect()
    }

    fn too_long(&mut self) -> Vec<u8> {
        let length = LIMIT as u64 + 1 + self.below(60_000);
        let byte = self.byte();
        vec![byte; usize::try_from(length).unwrap_or(LIMIT + 1)]
    }

    fn wrong_envelope(&mut self) -> Vec<u8> {
        let operation = Some(self.any_operation());
        let text = self.word().to_owned();
        let request = match self.below(3) {
            0 => wire::Request { version: VERSION + 1 + self.byte_u32(), operation_id: "op".into(), operation },
            1 => wire::Request { version: VERSION, operation_id: format!("{text}!"), operation },
            _ => wire::Request { version: VERSION, operation_id: "op".into(), operation: None },
        };
        request.encode_to_vec()
    }

    fn wrong_words(&mut self) -> Vec<u8> {
        let (vm_id, build) = (self.unknown_vm(), self.hex(32));
        let word = self.word().to_owned();
        let operation = match self.below(6) {
            0 => Operation::TeardownVm(wire::TeardownVm { vm_id: word }),
            1 => Operation::SetNat(wire::SetNat { vm_id: word, enabled: true }),
            2 => Operation::CreateRootDisk(wire::CreateRootDisk {
                vm_id,
                image_name: word,
                image_build: build,
                copy_on_write_mib: 1,
            }),
            // The word is a name, maybe, but there is no such image.
            3 => Operation::CreateRootDisk(wire::CreateRootDisk {
                vm_id,
                image_name: "small".into(),
                image_build: word,
                copy_on_write_mib: 1,
            }),
            4 => launch(vm_id, word, build),
            _ => launch(vm_id, "generic".into(), word),
        };
        enclose(operation)
    }

    fn wrong_numbers(&mut self) -> Vec<u8> {
        let (vm_id, build) = (self.unknown_vm(), self.hex(32));
        let huge = u64::MAX >> self.below(30);
        let operation = match self.below(4) {
            0 => Operation::CreateRootDisk(wire::CreateRootDisk {
                vm_id,
                image_name: "small".into(),
                image_build: build,
                copy_on_write_mib: huge,
            }),
            1 => Operation::LaunchVm(wire::LaunchVm {
                vm_id,
                kernel_name: "generic".into(),
                kernel_build: build,
                vcpu_count: u32::MAX >> self.below(20),
                memory_mib: huge,
            }),
            // Neither the guests' network, nor one of the three addresses in it that no guest has.
            2 => {
                let outside = [0, 0x7f00_0001, 0xac10_0000, 0xac10_0001, 0xac10_00ff, 0xac10_0102, 0xffff_ffff];
                let address = outside[usize::try_from(self.below(7)).unwrap_or(0)];
                Operation::AttachLink(wire::AttachLink { vm_id, address })
            }
            _ => Operation::SignalVm(wire::SignalVm { vm_id, signal: i32::from(self.byte()) + 3 }),
        };
        enclose(operation)
    }

    /// Things of others, and things nobody has.
    fn foreign(&mut self) -> Vec<u8> {
        let vm_id = self.unknown_vm();
        let known = self.known.first().cloned();
        let operation = match (self.below(6), known) {
            // A second address of the first known VM: a second tap.
            (0, Some(known)) => Operation::AttachLink(wire::AttachLink { vm_id: known, address: 0xac10_0064 }),
            // The first known VM's address.
            (1, Some(_)) => Operation::AttachLink(wire::AttachLink { vm_id, address: 0xac10_0002 }),
            (2, _) => Operation::DetachLink(wire::DetachLink { vm_id }),
            (3, _) => Operation::SignalVm(wire::SignalVm { vm_id, signal: wire::Signal::Kill.into() }),
            (4, _) => Operation::SetNat(wire::SetNat { vm_id, enabled: true }),
            _ => Operation::TeardownVm(wire::TeardownVm { vm_id }),
        };
        enclose(operation)
    }

    /// A frame that would be refused anyway, damaged.
    fn mutated(&mut self) -> Vec<u8> {
        let mut bytes = self.foreign();
        for _ in 0..=self.below(4) {
            let at = usize::try_from(self.below(bytes.len() as u64)).unwrap_or(0);
            match self.below(4) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.byte(),
                2 => bytes.insert(at, self.byte()),
                _ if bytes.len() > 1 => _ = bytes.remove(at),
                _ => {}
            }
        }
        // Damage can turn one operation into another, so what would be granted to anybody is damaged for good.
        let is_harmless = wire::Request::decode(&*bytes).is_ok_and(|request| {
            matches!(
                request.operation,
                Some(
                    Operation::EnsureNetwork(_)
                        | Operation::SetResolver(_)
                        | Operation::Inventory(_)
                        | Operation::AttachLink(_)
                        | Operation::CreateRootDisk(_)
                )
            )
        });
        if is_harmless {
            bytes.truncate(bytes.len() / 2 + 1);
            bytes.push(0xff);
        }
        bytes
    }

    fn any_operation(&mut self) -> Operation {
        let vm_id = self.unknown_vm();
        match self.below(3) {
            0 => Operation::EnsureNetwork(wire::EnsureNetwork {}),
            1 => Operation::Inventory(wire::Inventory {}),
            _ => Operation::TeardownVm(wire::TeardownVm { vm_id }),
        }
    }

    /// Nobody has one that begins like this.
    fn unknown_vm(&mut self) -> String {
        format!("deadbeef{}", self.hex(24))
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[usize::from(self.byte() & 15)])).collect()
    }

    fn word(&mut self) -> &'static str {
        WORDS[usize::try_from(self.below(WORDS.len() as u64)).unwrap_or(0)]
    }

    fn byte(&mut self) -> u8 {
        self.random().to_le_bytes()[3]
    }

    fn byte_u32(&mut self) -> u32 {
        u32::from(self.byte())
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random() % limit
    }

    /// SplitMix64: small, and the same on every machine.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn launch(vm_id: String, kernel_name: String, kernel_build: String) -> Operation {
    Operation::LaunchVm(wire::LaunchVm { vm_id, kernel_name, kernel_build, vcpu_count: 1, memory_mib: 128 })
}

fn enclose(operation: Operation) -> Vec<u8> {
    let request = wire::Request { version: VERSION, operation_id: "hammer".into(), operation: Some(operation) };
    request.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_frames_and_none_is_empty() {
        let frames = |seed| {
            let mut frames = Frames::new(seed, &["a"]);
            (0..2000).map(|_| frames.next()).collect::<Vec<_>>()
        };
        assert_eq!(frames(1), frames(1));
        assert_ne!(frames(1), frames(2));
        assert!(frames(3).iter().all(|frame| !frame.is_empty()));
    }
}
