//! Fixed points host and guest agree on without a message: ports, paths, names.

/// Port of the agent's SSH server inside the guest.
pub const AGENT_SSH_PORT: u16 = 4022;
/// Port of the image's own SSH server inside the guest.
pub const IMAGE_SSH_PORT: u16 = 22;
/// Name of the virtio-serial port that carries the control channel.
pub const CONTROL_PORT_NAME: &str = "banger.control";
/// vsock port of the control channel (Firecracker).
pub const CONTROL_VSOCK_PORT: u32 = 1024;
/// On the kernel's command line of every guest of Firecracker: its machine knows no power-off, only a reset.
pub const FIRECRACKER_ARGUMENT: &str = "banger.vmm=firecracker";
/// A session whose client sets this variable is this user's, as `USER[:GROUP]`; empty: the one the image's
/// configuration names, else root.
pub const SESSION_USER_VARIABLE: &str = "BANGER_USER";
/// The seed inside the initrd.
pub const SEED_PATH: &str = "/banger/seed.pb";
/// Modules inside the initrd, and the file listing their names in load order, one a line.
pub const INITRD_MODULES: &str = "/modules";
/// See [`INITRD_MODULES`].
pub const INITRD_MODULES_ORDER: &str = "/modules/order";
/// The same for what only a guest of Firecracker needs; loaded before the others there.
pub const INITRD_MODULES_ORDER_FIRECRACKER: &str = "/modules/order.firecracker";
/// Where the running guest keeps its copy of banger-guest.
pub const GUEST_BINARY: &str = "/run/banger/banger-guest";
/// virtio-blk serials. Where the VMM knows none, the seed has absolute device paths in their place.
pub const ROOT_DISK_SERIAL: &str = "root";
/// See [`ROOT_DISK_SERIAL`].
pub const WORK_DISK_SERIAL: &str = "work";
/// See [`ROOT_DISK_SERIAL`].
pub const MODULES_DISK_SERIAL: &str = "modules";
/// Where a workspace goes unless asked otherwise.
pub const DEFAULT_GUEST_PATH: &str = "/root/repo";
/// Longest control frame in bytes.
pub const CONTROL_FRAME_LIMIT: usize = 1 << 20;
