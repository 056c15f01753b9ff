//! What bangerd knows about one VM: the durable record and what it is made of.
//!
//! Plain data. The store persists it, the driver changes it, the API renders it; nothing here does I/O.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use banger_proto::names::{ImageId, ImageName, KernelName, VmId, VmName};

use super::state::VmState;
use crate::artifact::stamp::FileStamp;
use crate::platform::{ProcessIdentity, Running};

/// The durable record of a VM. Only its driver changes it after it was reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRecord {
    /// Globally unique.
    pub id: VmId,
    /// Unique on this host.
    pub name: VmName,
    /// See [`super::state`].
    pub state: VmState,
    /// What was asked for.
    pub spec: VmSpec,
    /// Where it boots from, pinned when the VM was created.
    pub boot: Arc<BootSource>,
    /// From its owner, kept so that a restart needs nobody to send it again.
    pub owner: Arc<OwnerMaterial>,
    /// The guest's own address, where guests have one; reserved like the name.
    pub address: Option<Ipv4Addr>,
    /// Identity of its SSH servers, made once.
    pub host_key: HostKey,
    /// Name of the monitor that runs it.
    pub vmm: String,
    /// When it was reserved.
    pub created_unix_ms: i64,
    /// When its VMM was last started; 0 if never.
    pub started_unix_ms: i64,
    /// The running VMM, if one is known.
    pub runtime: Option<RuntimeRecord>,
    /// The guest's own boot id.
    pub boot_id: String,
    /// From VMM start to the first command that could run; 0 if not yet.
    pub reachable_after_ms: u64,
    /// From VMM start to the end of the guest's boot; 0 if not yet.
    pub booted_after_ms: u64,
    /// Why it is broken, or what the last operation on it failed with.
    pub last_error: String,
    /// The last stop had to kill it.
    pub unclean: bool,
    /// What the last `workspace prepare` put into it.
    pub workspace: Option<Workspace>,
}

/// Size and network of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    /// Virtual CPUs.
    pub vcpu_count: u32,
    /// Guest memory.
    pub memory_mib: u64,
    /// Size of the work disk.
    pub work_disk_mib: u64,
    /// May open connections to the outside.
    pub nat: bool,
    /// Loopback ports of the host that lead into the guest.
    pub published_ports: Vec<PublishedPort>,
}

/// 127.0.0.1:`host` leads to `guest`, TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    /// On the host.
    pub host: u16,
    /// In the guest.
    pub guest: u16,
}

/// The files and facts a VM boots from. A later pull of the same image does not change them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BootSource {
    /// Of the image.
    #[serde(with = "text")]
    pub image: ImageName,
    /// Of the image's content.
    #[serde(with = "text")]
    pub image_id: ImageId,
    /// Of the kernel.
    #[serde(with = "text")]
    pub kernel: KernelName,
    /// Read-only base of the root disk.
    pub rootfs: PathBuf,
    /// How that file must look, if it is not the store's own: somebody else may write to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs_stamp: Option<FileStamp>,
    /// Absolute path of the image's init, if it has one.
    pub init_path: Option<String>,
    /// Port 22 of the guest answers once booted.
    pub has_sshd: bool,
    /// From the image's configuration.
    pub environment: Vec<String>,
    /// From the image's configuration.
    pub working_directory: String,
    /// From the image's configuration.
    pub user: String,
    /// Uncompressed kernel.
    pub vmlinux: PathBuf,
    /// Modules for the initrd.
    pub modules_cpio: PathBuf,
    /// All modules.
    pub modules_ext4: PathBuf,
    /// Appended to the kernel command line last.
    pub kernel_arguments: Vec<String>,
}

/// What a guest needs from its owner's home. Read there by the CLI, never by the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerMaterial {
    /// OpenSSH one-line public keys.
    pub authorized_keys: Vec<String>,
    /// `user.name`; empty if unset.
    pub git_name: String,
    /// `user.email`; empty if unset.
    pub git_email: String,
    /// Placed below /root at boot.
    pub files: Vec<OwnerFile>,
}

/// One file of the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerFile {
    /// Relative to /root.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Whole content.
    pub content: Vec<u8>,
}

/// An OpenSSH ed25519 key pair.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    /// OpenSSH PEM. Given to the guest in its seed, to nobody else.
    pub private: String,
    /// OpenSSH one line.
    pub public: String,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A VMM that was started and how to reach what runs in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RuntimeRecord {
    /// Cannot be confused with another process.
    pub process: ProcessIdentity,
    /// The agent's SSH server.
    pub agent_address: SocketAddr,
    /// The image's SSH server.
    pub ssh_address: Option<SocketAddr>,
}

impl From<Running> for RuntimeRecord {
    fn from(running: Running) -> Self {
        Self { process: running.process, agent_address: running.agent_address, ssh_address: running.ssh_address }
    }
}

/// What the CLI recorded about the tree it put into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// In the guest.
    pub guest_path: Vec<u8>,
    /// On the host.
    pub source_path: Vec<u8>,
    /// HEAD of the source.
    pub head_commit: String,
    /// Digest of the whole tree.
    pub tree_digest: String,
    /// When.
    pub prepared_unix_ms: i64,
}

/// Validated names as plain text in JSON; parsed again when read.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<T: AsRef<str>, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.as_ref())
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A resting VM, for tests that need any.
#[cfg(test)]
pub(crate) fn sample(name: &str) -> VmRecord {
    VmRecord {
        id: uuid::Uuid::new_v4().simple().to_string().parse().expect("a UUID is an id"),
        name: name.parse().expect("tests use valid names"),
        state: VmState::Stopped,
        spec: VmSpec {
            vcpu_count: 2,
            memory_mib: 512,
            work_disk_mib: 1024,
            nat: true,
            published_ports: vec![PublishedPort { host: 8080, guest: 80 }],
        },
        boot: Arc::new(BootSource {
            image: "debian".parse().expect("valid"),
            image_id: "ab".repeat(32).parse().expect("valid"),
            kernel: "generic".parse().expect("valid"),
            rootfs: "/r".into(),
            rootfs_stamp: None,
            init_path: Some("/sbin/init".into()),
            has_sshd: true,
            environment: vec!["A=b".into()],
            working_directory: "/".into(),
            user: "root".into(),
            vmlinux: "/v".into(),
            modules_cpio: "/c".into(),
            modules_ext4: "/e".into(),
            kernel_arguments: vec!["debug".into()],
        }),
        owner: Arc::new(OwnerMaterial {
            authorized_keys: vec!["ssh-ed25519 A".into()],
            git_name: "Me".into(),
            git_email: "me@example.org".into(),
            files: vec![OwnerFile { path: b"a\xff".to_vec(), mode: 0o600, content: vec![0, 1, 255] }],
        }),
        address: None,
        host_key: HostKey { private: "private".into(), public: "public".into() },
        vmm: "fake".into(),
        created_unix_ms: 1,
        started_unix_ms: 2,
        runtime: None,
        boot_id: "b".into(),
        reachable_after_ms: 3,
        booted_after_ms: 4,
        last_error: String::new(),
        unclean: true,
        workspace: None,
    }
}
