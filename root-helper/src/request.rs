//! Untrusted bytes → a validated operation, or the reason why not. Pure.
//!
//! A request carries ids, sizes, one address and booleans; here each becomes a type that cannot hold anything
//! else. Whether the operation is *allowed* is not decided here: see [`policy`](crate::policy).

use std::net::Ipv4Addr;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::{BuildId, ImageName, InvalidName, VmId};
use banger_proto::root::v1 as wire;
use prost::Message as _;

use crate::ledger::Machine;

/// The only version of the boundary this build speaks.
pub const VERSION: u32 = 1;
/// Longest request in bytes. The largest valid one is under 200.
pub const LIMIT: usize = 4096;
/// Most virtual CPUs a VM can have.
pub const MAX_VCPUS: u32 = 32;
/// Most memory of a VM, in MiB.
pub const MAX_MEMORY_MIB: u64 = 1 << 20;
/// Largest copy-on-write file, in MiB.
pub const MAX_DISK_MIB: u64 = 1 << 24;

/// A request in terms of validated names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who in bangerd asked, for the log: at most 64 of `a-z 0-9 -`.
    pub operation_id: String,
    /// What to do.
    pub operation: Operation,
}

/// All that the helper can be asked for. Each variant is one file of [`operations`](crate::operations).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Bridge, table and forwarding exist.
    EnsureNetwork,
    /// A tap for this VM with this address, isolated on the bridge.
    AttachLink { vm: VmId, address: Ipv4Addr },
    /// The tap of this VM is gone.
    DetachLink { vm: VmId },
    /// Outbound traffic of this VM.
    SetNat { vm: VmId, nat: Switch },
    /// `.vm` names through the system's resolver.
    SetResolver { resolver: Switch },
    /// A snapshot of one build of an image with its own copy-on-write file.
    CreateRootDisk { vm: VmId, image: ImageName, build: BuildId, copy_on_write_mib: u64 },
    /// The jailed machine monitor; it has no process yet.
    LaunchVm { vm: VmId, machine: Machine },
    /// A signal to the machine monitor of this VM.
    SignalVm { vm: VmId, signal: Signal },
    /// Everything the ledger lists for this VM is taken away.
    TeardownVm { vm: VmId },
    /// What exists.
    Inventory,
}

impl Operation {
    /// The VM it is about, if it is about one.
    pub fn vm(&self) -> Option<&VmId> {
        match self {
            Self::EnsureNetwork | Self::SetResolver { .. } | Self::Inventory => None,
            Self::AttachLink { vm, .. }
            | Self::DetachLink { vm }
            | Self::SetNat { vm, .. }
            | Self::CreateRootDisk { vm, .. }
            | Self::LaunchVm { vm, .. }
            | Self::SignalVm { vm, .. }
            | Self::TeardownVm { vm } => Some(vm),
        }
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// The two signals that are ever sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// Why bytes are not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Longer than any valid request.
    #[error("a request of {length} bytes exceeds the limit of {LIMIT}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not a message of this protocol.
    #[error("the request is not a valid message")]
    Malformed {
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// Another version of the boundary.
    #[error("the request has version {version}, this helper speaks {VERSION}")]
    Version {
        /// What was given.
        version: u32,
    },
    /// The operation id is not one.
    #[error("the operation id {text:?} is not 1 to 64 of a-z, 0-9 and '-'")]
    OperationId {
        /// What was given.
        text: String,
    },
    /// The request names no operation, or one of a later version.
    #[error("the request names no operation this helper knows")]
    NoOperation,
    /// A name or id is not one.
    #[error("the request names something that cannot exist")]
    Name {
        /// Which and why.
        source: InvalidName,
    },
    /// A number outside its bounds.
    #[error("{what} {value} is not between 1 and {limit}")]
    OutOfRange {
        /// "vcpu count" …
        what: &'static str,
        /// What was given.
        value: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// A signal that is never sent.
    #[error("the request names no signal this helper sends")]
    Signal,
}

impl Classified for InvalidRequest {
    fn kind(&self) -> Kind {
        match self {
            Self::Version { .. } | Self::NoOperation => Kind::HostNotReady,
            Self::TooLong { .. }
            | Self::Malformed { .. }
            | Self::OperationId { .. }
            | Self::Name { .. }
            | Self::OutOfRange { .. }
            | Self::Signal => Kind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Version { .. } | Self::NoOperation => {
                vec![
                    "Install the same version of both services: compare `bangerd --version` and `bangerd-root --version`."
                        .into(),
                ]
            }
            _ => Vec::new(),
        }
    }
}

/// Turns the bytes of one frame into a request.
///
/// # Errors
/// [`InvalidRequest`]: the first thing found wrong.
pub fn parse(bytes: &[u8]) -> Result<Request, InvalidRequest> {
    if bytes.len() > LIMIT {
        return Err(InvalidRequest::TooLong { length: bytes.len() });
    }
    let request = wire::Request::decode(bytes).map_err(|source| InvalidRequest::Malformed { source })?;
    if request.version != VERSION {
        return Err(InvalidRequest::Version { version: request.version });
    }
    Ok(Request {
        operation_id: parse_operation_id(request.operation_id)?,
        operation: parse_operation(request.operation.ok_or(InvalidRequest::NoOperation)?)?,
    })
}

fn parse_operation_id(text: String) -> Result<String, InvalidRequest> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits { Ok(text) } else { Err(InvalidRequest::OperationId { text }) }
}

fn parse_operation(operation: wire::request::Operation) -> Result<Operation, InvalidRequest> {
    use wire::request::Operation as Wire;
    Ok(match operation {
        Wire::EnsureNetwork(wire::EnsureNetwork {}) => Operation::EnsureNetwork,
        Wire::AttachLink(wire::AttachLink { vm_id, address }) => {
            Operation::AttachLink { vm: parse_name(&vm_id)?, address: Ipv4Addr::from_bits(address) }
        }
        Wire::DetachLink(wire::DetachLink { vm_id }) => Operation::DetachLink { vm: parse_name(&vm_id)? },
        Wire::SetNat(wire::SetNat { vm_id, enabled }) => {
            Operation::SetNat { vm: parse_name(&vm_id)?, nat: parse_switch(enabled) }
        }
        Wire::SetResolver(wire::SetResolver { enabled }) => Operation::SetResolver { resolver: parse_switch(enabled) },
        Wire::CreateRootDisk(wire::CreateRootDisk { vm_id, image_name, image_build, copy_on_write_mib }) => {
            Operation::CreateRootDisk {
                vm: parse_name(&vm_id)?,
                image: parse_name(&image_name)?,
                build: parse_name(&image_build)?,
                copy_on_write_mib: parse_bounded("copy-on-write size in MiB", copy_on_write_mib, MAX_DISK_MIB)?,
            }
        }
        Wire::LaunchVm(message) => {
            Operation::LaunchVm { vm: parse_name(&message.vm_id)?, machine: parse_machine(&message)? }
        }
        Wire::SignalVm(message) => {
            Operation::SignalVm { vm: parse_name(&message.vm_id)?, signal: parse_signal(message.signal())? }
        }
        Wire::TeardownVm(wire::TeardownVm { vm_id }) => Operation::TeardownVm { vm: parse_name(&vm_id)? },
        Wire::Inventory(wire::Inventory {}) => Operation::Inventory,
    })
}

fn parse_name<N: std::str::FromStr<Err = InvalidName>>(text: &str) -> Result<N, InvalidRequest> {
    text.parse().map_err(|source| InvalidRequest::Name { source })
}

fn parse_machine(message: &wire::LaunchVm) -> Result<Machine, InvalidRequest> {
    parse_bounded("vcpu count", u64::from(message.vcpu_count), u64::from(MAX_VCPUS))?;
    Ok(Machine {
        kernel: parse_name(&message.kernel_name)?,
        build: parse_name(&message.kernel_build)?,
        vcpus: message.vcpu_count,
        memory_mib: parse_bounded("memory in MiB", message.memory_mib, MAX_MEMORY_MIB)?,
        root_device: None,
        process: None,
    })
}

fn parse_bounded(what: &'static str, value: u64, limit: u64) -> Result<u64, InvalidRequest> {
    if (1..=limit).contains(&value) { Ok(value) } else { Err(InvalidRequest::OutOfRange { what, value, limit }) }
}

fn parse_switch(enabled: bool) -> Switch {
    if enabled { Switch::On } else { Switch::Off }
}

fn parse_signal(signal: wire::Signal) -> Result<Signal, InvalidRequest> {
    match signal {
        wire::Signal::Terminate => Ok(Signal::Terminate),
        wire::Signal::Kill => Ok(Signal::Kill),
        wire::Signal::Unspecified => Err(InvalidRequest::Signal),
    }
}

#[cfg(test)]
mod tests;
