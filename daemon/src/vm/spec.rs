//! What a VM may ask for, checked before anything is reserved. Pure: the host's limits are given.

use std::collections::BTreeSet;

use banger_proto::failure::{Classified, Kind};
use banger_proto::size::MiB;

use super::record::{OwnerMaterial, VmSpec};

/// Fewer would not boot a distribution.
const MEMORY_MINIMUM_MIB: u64 = 128;
/// Smaller leaves no room for a file system worth having.
const DISK_MINIMUM_MIB: u64 = 64;
/// The largest ext4 with 4 KiB blocks and 32-bit block numbers.
const DISK_MAXIMUM_MIB: u64 = 16 << 20;
/// What making a VM writes before the guest writes anything: file system metadata, overlay, initrd, logs.
const FREE_MINIMUM_MIB: u64 = 192;
/// The kernel's own limit is 2048 bytes for the whole line, most of which the platform needs.
const KERNEL_ARGUMENTS_LIMIT: usize = 1024;
/// The owner's files become part of the initrd, which lives in guest memory while it boots.
const OWNER_FILES_LIMIT: usize = 16 << 20;

/// What the host can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// CPUs the host has.
    pub cpus: u32,
    /// RAM the host has.
    pub memory_mib: u64,
    /// Free space where VMs are kept.
    pub free_mib: u64,
}

impl HostLimits {
    /// Virtual CPUs may outnumber real ones, but not without bound.
    fn vcpu_maximum(&self) -> u32 {
        (self.cpus.max(1) * 8).min(64)
    }
}

/// Why a VM cannot be made as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No or too many CPUs.
    #[error("{asked} virtual CPUs are out of range: use 1 to {maximum} on this host")]
    Cpus {
        /// What was asked for.
        asked: u32,
        /// The most this host allows.
        maximum: u32,
    },
    /// Too little or too much memory.
    #[error(
        "{asked} MiB of memory are out of range: use {MEMORY_MINIMUM_MIB} MiB to {maximum} MiB, the memory of this host"
    )]
    Memory {
        /// What was asked for.
        asked: u64,
        /// The RAM of the host.
        maximum: u64,
    },
    /// Too small or too large a work disk.
    #[error("a work disk of {asked} MiB is out of range: use {DISK_MINIMUM_MIB} MiB to {DISK_MAXIMUM_MIB} MiB")]
    Disk {
        /// What was asked for.
        asked: u64,
    },
    /// The host is full.
    #[error(
        "the file system that keeps the VMs has {} of free space, a new VM needs at least {}",
        size(*free_mib), size(FREE_MINIMUM_MIB)
    )]
    Full {
        /// What is free.
        free_mib: u64,
    },
    /// Two published ports share a host port.
    #[error("the host port {port} is published twice")]
    PortTwice {
        /// The port.
        port: u16,
    },
    /// A kernel argument that would become two, or the line is too long.
    #[error("the kernel argument {argument:?} cannot be used: {rule}")]
    KernelArgument {
        /// The argument.
        argument: String,
        /// The rule, as a clause.
        rule: &'static str,
    },
    /// A file of the owner that does not lie below /root, or all together too large.
    #[error("the owner's file {path:?} cannot be put below /root: {rule}")]
    OwnerFile {
        /// Its path, made printable.
        path: String,
        /// The rule, as a clause.
        rule: &'static str,
    },
    /// A key that is not one line.
    #[error("an authorized key is not a single OpenSSH line: {line:?}")]
    AuthorizedKey {
        /// Its beginning.
        line: String,
    },
}

impl Classified for SpecError {
    fn kind(&self) -> Kind {
        match self {
            Self::Full { .. } => Kind::HostNotReady,
            Self::Cpus { .. }
            | Self::Memory { .. }
            | Self::Disk { .. }
            | Self::PortTwice { .. }
            | Self::KernelArgument { .. }
            | Self::OwnerFile { .. }
            | Self::AuthorizedKey { .. } => Kind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Full { .. } => {
                vec!["Free some space, for example with `banger vm delete` or `banger image delete`.".into()]
            }
            Self::Cpus { .. }
            | Self::Memory { .. }
            | Self::Disk { .. }
            | Self::PortTwice { .. }
            | Self::KernelArgument { .. }
            | Self::OwnerFile { .. }
            | Self::AuthorizedKey { .. } => vec!["See what can be asked for with `banger vm create --help`.".into()],
        }
    }
}

/// Checks everything about the size of a VM.
///
/// # Errors
/// The first thing that is out of range.
pub fn check_spec(spec: &VmSpec, limits: &HostLimits) -> Result<(), SpecError> {
    check_size(spec, limits)?;
    if !(DISK_MINIMUM_MIB..=DISK_MAXIMUM_MIB).contains(&spec.work_disk_mib) {
        return Err(SpecError::Disk { asked: spec.work_disk_mib });
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = spec.published_ports.iter().find(|port| !seen.insert(port.host)) {
        return Err(SpecError::PortTwice { port: twice.host });
    }
    if limits.free_mib < FREE_MINIMUM_MIB {
        return Err(SpecError::Full { free_mib: limits.free_mib });
    }
    Ok(())
}

/// Checks CPUs and memory.
///
/// # Errors
/// The first that is out of range.
pub fn check_size(spec: &VmSpec, limits: &HostLimits) -> Result<(), SpecError> {
    if !(1..=limits.vcpu_maximum()).contains(&spec.vcpu_count) {
        return Err(SpecError::Cpus { asked: spec.vcpu_count, maximum: limits.vcpu_maximum() });
    }
    if !(MEMORY_MINIMUM_MIB..=limits.memory_mib).contains(&spec.memory_mib) {
        return Err(SpecError::Memory { asked: spec.memory_mib, maximum: limits.memory_mib });
    }
    Ok(())
}

/// Checks arguments for the guest's kernel.
///
/// # Errors
/// [`SpecError::KernelArgument`].
pub fn check_kernel_arguments(arguments: &[String]) -> Result<(), SpecError> {
    let refuse = |argument: &String, rule| SpecError::KernelArgument { argument: argument.clone(), rule };
    let mut length = 0;
    for argument in arguments {
        if argument.is_empty() || !argument.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refuse(argument, "it must be printable ASCII without spaces"));
        }
        length += argument.len() + 1;
        if length > KERNEL_ARGUMENTS_LIMIT {
            return Err(refuse(argument, "all of them together are longer than 1024 bytes"));
        }
    }
    Ok(())
}

/// Checks what the owner sends along.
///
/// # Errors
/// [`SpecError::OwnerFile`] or [`SpecError::AuthorizedKey`].
pub fn check_owner(owner: &OwnerMaterial) -> Result<(), SpecError> {
    for line in &owner.authorized_keys {
        if line.trim().is_empty() || line.contains(['\n', '\r', '\0']) {
            return Err(SpecError::AuthorizedKey { line: line.chars().take(40).collect() });
        }
    }
    let mut seen = BTreeSet::new();
    let mut total = 0;
    for file in &owner.files {
        let refuse = |rule| Err(SpecError::OwnerFile { path: String::from_utf8_lossy(&file.path).into_owned(), rule });
        let mut components = file.path.split(|byte| *byte == b'/');
        if file.path.is_empty() || file.path.contains(&0) {
            return refuse("the path is empty or contains a NUL");
        }
        if components.any(|component| matches!(component, b"" | b"." | b"..")) {
            return refuse("the path must be relative, without '.', '..' or empty components");
        }
        if file.mode & !0o7777 != 0 {
            return refuse("the mode has more than permission bits");
        }
        if !seen.insert(&file.path) {
            return refuse("it is sent twice");
        }
        total += file.content.len();
        if total > OWNER_FILES_LIMIT {
            return refuse("all files together are larger than 16 MiB");
        }
    }
    Ok(())
}

fn size(mib: u64) -> String {
    MiB::new(mib).map_or_else(|_| format!("{mib} MiB"), |size| size.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::record::{OwnerFile, PublishedPort};
    use super::*;

    const HOST: HostLimits = HostLimits { cpus: 2, memory_mib: 4096, free_mib: 10_000 };

    fn spec() -> VmSpec {
        VmSpec { vcpu_count: 1, memory_mib: 512, work_disk_mib: 1024, nat: false, published_ports: Vec::new() }
    }

    #[test]
    fn limits_are_inclusive_and_named_in_the_message() {
        for (spec, expected) in [
            (VmSpec { vcpu_count: 16, memory_mib: 128, work_disk_mib: 64, ..spec() }, None),
            (VmSpec { vcpu_count: 0, ..spec() }, Some("1 to 16")),
            (VmSpec { vcpu_count: 17, ..spec() }, Some("1 to 16")),
            (VmSpec { memory_mib: 127, ..spec() }, Some("128 MiB to 4096 MiB")),
            (VmSpec { memory_mib: 4097, ..spec() }, Some("128 MiB to 4096 MiB")),
            (VmSpec { work_disk_mib: 63, ..spec() }, Some("64 MiB")),
        ] {
            let found = check_spec(&spec, &HOST).err();
            match expected {
                None => assert_eq!(found, None),
                Some(text) => {
                    let error = found.unwrap_or_else(|| panic!("{spec:?} was accepted"));
                    assert!(error.to_string().contains(text), "{error}");
                    assert_eq!(error.kind(), Kind::Usage);
                }
            }
        }
    }

    #[test]
    fn a_full_host_is_not_the_users_mistake() {
        let error = check_spec(&spec(), &HostLimits { free_mib: 10, ..HOST }).expect_err("full");
        assert_eq!(error.kind(), Kind::HostNotReady);
        assert!(error.to_string().contains("10 MiB") && error.to_string().contains("192 MiB"), "{error}");
    }

    #[test]
    fn a_host_port_leads_to_one_place() {
        let published_ports = vec![PublishedPort { host: 80, guest: 1 }, PublishedPort { host: 80, guest: 2 }];
        assert_eq!(check_spec(&VmSpec { published_ports, ..spec() }, &HOST), Err(SpecError::PortTwice { port: 80 }));
    }

    #[test]
    fn owner_files_stay_below_root() {
        let with = |path: &[u8]| OwnerMaterial {
            files: vec![OwnerFile { path: path.to_vec(), mode: 0o600, content: Vec::new() }],
            ..OwnerMaterial::default()
        };
        assert_eq!(check_owner(&with(b".config/x\xff")), Ok(()));
        for bad in [&b"/etc/passwd"[..], b"../x", b"a/../x", b"", b"a//b", b"a/", b"./a", b"a\0b"] {
            assert!(check_owner(&with(bad)).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_kernel_argument_cannot_smuggle_a_second_one() {
        assert_eq!(check_kernel_arguments(&["debug".into(), "a=b".into()]), Ok(()));
        for bad in ["a b", "", "a\n", "ä"] {
            assert!(check_kernel_arguments(&[bad.into()]).is_err(), "{bad:?}");
        }
        assert!(check_kernel_arguments(&["x".repeat(600), "y".repeat(600)]).is_err());
    }
}
