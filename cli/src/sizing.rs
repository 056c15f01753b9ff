//! Sizes of a new VM: flag, else configuration, else a share of the host. The daemon never guesses:
//! the CLI resolves every value, shows it and sends it. Pure apart from [`Host::observe`].

use banger_proto::size::MiB;

use crate::config::VmDefaults;

/// What the automatic sizes depend on.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Logical CPUs.
    pub cpus: u32,
    /// RAM in MiB.
    pub memory_mib: u64,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// A flag.
    Flag,
    /// config.toml.
    Config,
    /// A share of the host.
    Automatic,
    /// Built in.
    BuiltIn,
}

impl Provenance {
    /// One word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Config => "config",
            Self::Automatic => "auto",
            Self::BuiltIn => "builtin",
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sized<T> {
    /// The value.
    pub value: T,
    /// Its origin.
    pub provenance: Provenance,
}

/// Every size of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Virtual CPUs.
    pub vcpu: Sized<u32>,
    /// Memory.
    pub memory: Sized<MiB>,
    /// Work disk, mounted at /root.
    pub disk: Sized<MiB>,
}

/// Sizes given as flags.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flags {
    /// `--vcpu`.
    pub vcpu: Option<u32>,
    /// `--memory`.
    pub memory: Option<MiB>,
    /// `--disk-size`.
    pub disk: Option<MiB>,
}

impl Host {
    /// Looks at this host. What cannot be read counts as one CPU and no memory, which gives the smallest VM.
    pub fn observe() -> Self {
        let cpus =
            std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
        let memory_mib =
            std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| parse_memory(&text)).unwrap_or(0);
        Self { cpus, memory_mib }
    }
}

/// MemTotal of /proc/meminfo in MiB.
fn parse_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib / 1024)
}

/// An odd number of MiB lies beside the huge pages that could hold it (docs/decisions/0009).
const MEMORY_STEP_MIB: u64 = 64;

/// Resolves every size.
pub fn resolve(flags: Flags, defaults: &VmDefaults, host: Host) -> Sizes {
    let automatic_vcpu = (host.cpus / 4).clamp(host.cpus.clamp(1, 2), 4);
    let automatic_memory = (host.memory_mib / 8).clamp(1024, 8192) / MEMORY_STEP_MIB * MEMORY_STEP_MIB;
    Sizes {
        vcpu: pick(flags.vcpu, defaults.vcpu, automatic_vcpu, Provenance::Automatic),
        memory: pick(flags.memory, defaults.memory, mib(automatic_memory), Provenance::Automatic),
        disk: pick(flags.disk, defaults.disk_size, mib(8 * 1024), Provenance::BuiltIn),
    }
}

fn pick<T>(flag: Option<T>, config: Option<T>, otherwise: T, origin: Provenance) -> Sized<T> {
    match (flag, config) {
        (Some(value), _) => Sized { value, provenance: Provenance::Flag },
        (None, Some(value)) => Sized { value, provenance: Provenance::Config },
        (None, None) => Sized { value: otherwise, provenance: origin },
    }
}

fn mib(value: u64) -> MiB {
    MiB::new(value).expect("the built-in sizes are in range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(cpus: u32, memory_mib: u64) -> (u32, u64) {
        let sizes = resolve(Flags::default(), &VmDefaults::default(), Host { cpus, memory_mib });
        (sizes.vcpu.value, sizes.memory.value.get())
    }

    #[test]
    fn automatic_sizes_are_a_bounded_share_of_the_host() {
        assert_eq!(sizes(1, 512), (1, 1024));
        assert_eq!(sizes(2, 23 * 1024), (2, 2944));
        assert_eq!(sizes(2, 24_105), (2, 3008), "in steps");
        assert_eq!(sizes(8, 16 * 1024), (2, 2048));
        assert_eq!(sizes(12, 64 * 1024), (3, 8192));
        assert_eq!(sizes(128, 1 << 20), (4, 8192));
    }

    #[test]
    fn a_flag_wins_over_the_configuration_and_that_over_the_host() {
        let defaults = VmDefaults { vcpu: Some(3), memory: Some(mib(700)), ..VmDefaults::default() };
        let flags = Flags { vcpu: Some(7), ..Flags::default() };
        let sizes = resolve(flags, &defaults, Host { cpus: 2, memory_mib: 4096 });
        assert_eq!(sizes.vcpu, Sized { value: 7, provenance: Provenance::Flag });
        assert_eq!(sizes.memory, Sized { value: mib(700), provenance: Provenance::Config });
        assert_eq!(sizes.disk, Sized { value: mib(8192), provenance: Provenance::BuiltIn });
    }

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(parse_memory("MemTotal:       24117248 kB\nMemFree: 1 kB\n"), Some(23552));
        assert_eq!(parse_memory("nonsense"), None);
    }
}
