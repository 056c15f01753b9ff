//! What `banger system install` wrote down about this host: /etc/banger/install.toml, and the fixed places of the
//! supported path. Its presence is what makes the supported path the default.
//!
//! ```toml
//! [owner]
//! name = "dev"
//! uid = 1000
//! gid = 1000
//! home = "/home/dev"
//!
//! [build]
//! version = "0.1.0"
//! commit = "0123456789ab"
//! installed_unix_s = 1700000000
//! updated_unix_s = 1700000000
//!
//! [network]
//! bridge = "br-fc"
//! subnet = "172.16.0.0/24"
//! ```
//! Written by root only; read by all three programs. Reading never follows anything the file says.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Classified, Kind};

/// The metadata.
pub const INSTALL_FILE: &str = "/etc/banger/install.toml";
/// bangerd's configuration.
pub const CONFIG_DIRECTORY: &str = "/etc/banger";
/// bangerd, bangerd-root, banger-guest, firecracker and jailer.
pub const PROGRAM_DIRECTORY: &str = "/usr/local/lib/banger";
/// The command line.
pub const COMMAND: &str = "/usr/local/bin/banger";
/// bangerd's sockets, the owner's alone.
pub const RUNTIME_DIRECTORY: &str = "/run/banger";
/// bangerd's store, VMs, images and kernels, the owner's alone.
pub const STATE_DIRECTORY: &str = "/var/lib/banger";
/// bangerd's downloads and staged builds, the owner's alone.
pub const CACHE_DIRECTORY: &str = "/var/cache/banger";
/// The helper's socket.
pub const HELPER_RUNTIME_DIRECTORY: &str = "/run/banger-root";
/// The helper's socket.
pub const HELPER_SOCKET: &str = "/run/banger-root/bangerd-root.sock";
/// The helper's ledger, copy-on-write files and jails.
pub const HELPER_STATE_DIRECTORY: &str = "/var/lib/banger-root";
/// bangerd's DNS server, on the bridge's address. Not 53: that would need a privilege.
pub const DNS_PORT: u16 = 5354;
/// Domain of VMs' names.
pub const DOMAIN: &str = "vm";

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// Whose VMs these are.
    pub owner: Owner,
    /// What is installed.
    pub build: Build,
    /// Where guests live.
    pub network: Network,
}

/// The one user who may use this installation, besides root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Login name.
    pub name: String,
    /// User id, never 0.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// What is installed and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Of banger.
    pub version: String,
    /// Of its sources.
    pub commit: String,
    /// First installation, seconds since the epoch.
    pub installed_unix_s: u64,
    /// Last installation over it.
    pub updated_unix_s: u64,
}

/// The guests' network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// Its first address is the bridge's, the last the broadcast address.
    pub subnet: Subnet,
}

impl Default for Network {
    fn default() -> Self {
        Self { bridge: "br-fc".to_owned(), subnet: Subnet { base: Ipv4Addr::new(172, 16, 0, 0), prefix: 24 } }
    }
}

/// An IPv4 network of 16 to 28 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

/// Why a text is not a network for guests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a network for guests: {rule}")]
pub struct InvalidSubnet {
    /// What was given.
    pub text: String,
    /// The rule.
    pub rule: &'static str,
}

impl Subnet {
    /// The network address.
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// In bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The bridge's address: the first of the network.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// True for what a guest can have: in the network, and neither its address, the bridge's nor the broadcast's.
    pub fn is_guest(self, address: Ipv4Addr) -> bool {
        let host = address.to_bits().wrapping_sub(self.base.to_bits());
        host > 1 && host < self.host_mask()
    }

    /// All addresses a guest can have, in order.
    pub fn guests(self) -> impl Iterator<Item = Ipv4Addr> {
        (2..self.host_mask()).map(move |host| Ipv4Addr::from_bits(self.base.to_bits() + host))
    }

    /// Those of them that differ from one of these in their last byte at most; each once, in order.
    pub fn guests_near(self, addresses: impl IntoIterator<Item = Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
        let blocks: BTreeSet<u32> = addresses.into_iter().map(|address| address.to_bits() & !0xff).collect();
        let near = blocks.into_iter().flat_map(|first| first..=first | 0xff).map(Ipv4Addr::from_bits);
        near.filter(move |guest| self.is_guest(*guest))
    }

    fn host_mask(self) -> u32 {
        u32::MAX >> self.prefix
    }
}

impl std::str::FromStr for Subnet {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let invalid = |rule| InvalidSubnet { text: text.to_owned(), rule };
        let parts = text.split_once('/').and_then(|(base, prefix)| Some((base.parse().ok()?, prefix.parse().ok()?)));
        let (base, prefix): (Ipv4Addr, u8) = parts.ok_or_else(|| invalid("write it as 172.16.0.0/24"))?;
        if !(16..=28).contains(&prefix) {
            return Err(invalid("use 16 to 28 bits"));
        }
        let subnet = Self { base, prefix };
        if base.to_bits() & subnet.host_mask() != 0 {
            return Err(invalid("its address has bits behind the prefix"));
        }
        if !base.is_private() {
            return Err(invalid("use a private network (RFC 1918)"));
        }
        Ok(subnet)
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl TryFrom<String> for Subnet {
    type Error = InvalidSubnet;

    fn try_from(text: String) -> Result<Self, InvalidSubnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

/// The Ethernet address of the guest with this IPv4 address: locally administered, so that no real card has it.
pub fn guest_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0xfc, a, b, c, d]
}

/// The same as text, as nft and Firecracker want it.
pub fn guest_mac_text(address: Ipv4Addr) -> String {
    guest_mac(address).map(|byte| format!("{byte:02x}")).join(":")
}

/// What every tap's name begins with; the bridge's never does.
pub const TAP_PREFIX: &str = "fc-";

/// Name of the tap of the guest with this IPv4 address: which frames may come from it is known before it is there.
pub fn tap(address: Ipv4Addr) -> String {
    format!("{TAP_PREFIX}{:08x}", address.to_bits())
}

/// The metadata cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Not the file `system install` writes.
    #[error("{} is not what `banger system install` writes", path.display())]
    Malformed {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: toml::de::Error,
    },
    /// The text is fine, what it says cannot be.
    #[error("{} cannot be right: {why}", path.display())]
    Invalid {
        /// Where.
        path: PathBuf,
        /// A clause.
        why: &'static str,
    },
}

impl Classified for InstallError {
    fn kind(&self) -> Kind {
        Kind::HostNotReady
    }

    fn hints(&self) -> Vec<String> {
        vec!["Repair it with `sudo banger system install --owner USER`.".into()]
    }
}

impl Install {
    /// The metadata of this host; `None` if nothing is installed.
    ///
    /// # Errors
    /// [`InstallError`] if there is a file that cannot be used.
    pub fn load() -> Result<Option<Self>, InstallError> {
        Self::load_from(Path::new(INSTALL_FILE))
    }

    /// The same from another file.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn load_from(path: &Path) -> Result<Option<Self>, InstallError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(InstallError::Read { path: path.to_owned(), source }),
        }
    }

    /// From the file's text; `path` is for messages.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, InstallError> {
        let install: Self =
            toml::from_str(text).map_err(|source| InstallError::Malformed { path: path.to_owned(), source })?;
        let invalid = |why| Err(InstallError::Invalid { path: path.to_owned(), why });
        if install.owner.uid == 0 || install.owner.gid == 0 {
            return invalid("the owner is root");
        }
        let bridge = install.network.bridge.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        if !(1..=15).contains(&bridge.len())
            || !bridge.iter().all(is_plain)
            || bridge.starts_with(TAP_PREFIX.as_bytes())
        {
            return invalid("the bridge's name is not 1 to 15 of a-z, 0-9 and '-', or begins with \"fc-\"");
        }
        Ok(install)
    }

    /// The file's text.
    pub fn render(&self) -> String {
        toml::to_string(self).expect("every field is text or a number that TOML can hold")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn install() -> Install {
        Install {
            owner: Owner { name: "dev".into(), uid: 1000, gid: 1000, home: "/home/dev".into() },
            build: Build { version: "1".into(), commit: "c".into(), installed_unix_s: 1, updated_unix_s: 2 },
            network: Network::default(),
        }
    }

    #[test]
    fn taps_are_called_by_their_guests_addresses_and_fit() {
        let taps: Vec<String> = "10.0.0.0/16".parse::<Subnet>().unwrap().guests().map(tap).collect();
        assert_eq!((taps[0].as_str(), taps.len()), ("fc-0a000002", (1 << 16) - 3));
        // As many as there are guests, each within the kernel's 15 bytes.
        assert_eq!(taps.iter().collect::<BTreeSet<_>>().len(), taps.len());
        assert!(taps.iter().all(|tap| tap.len() <= 15));
    }

    #[test]
    fn near_a_guest_are_those_of_the_network_that_differ_in_the_last_byte() {
        let near = |subnet: &str, address: [u8; 4]| -> Vec<Ipv4Addr> {
            subnet.parse::<Subnet>().unwrap().guests_near([address.into()]).collect()
        };
        let all = |subnet: &str| -> Vec<Ipv4Addr> { subnet.parse::<Subnet>().unwrap().guests().collect() };
        assert_eq!(near("172.16.0.0/24", [172, 16, 0, 9]), all("172.16.0.0/24"));
        assert_eq!(near("172.16.0.16/28", [172, 16, 0, 17]), all("172.16.0.16/28"));
        assert_eq!(near("10.0.0.0/16", [10, 0, 0, 1]).first(), Some(&Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(near("10.0.0.0/16", [10, 0, 255, 7]).last(), Some(&Ipv4Addr::new(10, 0, 255, 254)));
        assert_eq!(near("10.0.0.0/16", [10, 0, 3, 7]).len(), 256);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = install().render();
        assert_eq!(Install::parse(&text, Path::new("f")).unwrap(), install());
    }

    #[test]
    fn root_is_no_owner_and_unknown_keys_are_no_metadata() {
        let text = install().render();
        assert!(matches!(
            Install::parse(&text.replace("uid = 1000", "uid = 0"), Path::new("f")),
            Err(InstallError::Invalid { .. })
        ));
        assert!(matches!(
            Install::parse(&format!("{text}\nmore = 1\n"), Path::new("f")),
            Err(InstallError::Malformed { .. })
        ));
    }

    #[test]
    fn guests_have_all_addresses_but_three() {
        let subnet: Subnet = "172.16.0.0/28".parse().unwrap();
        let all: Vec<Ipv4Addr> = subnet.guests().collect();
        assert_eq!((all.len(), all[0], all[12]), (13, [172, 16, 0, 2].into(), [172, 16, 0, 14].into()));
        assert!(all.iter().all(|address| subnet.is_guest(*address)));
        for other in [[172, 16, 0, 0], [172, 16, 0, 1], [172, 16, 0, 15], [172, 16, 0, 16], [172, 15, 255, 255]] {
            assert!(!subnet.is_guest(other.into()), "{other:?}");
        }
    }

    #[test]
    fn only_private_networks_of_a_sensible_size() {
        for text in ["8.8.8.0/24", "172.16.0.1/24", "10.0.0.0/8", "172.16.0.0/30", "172.16.0.0", "x/24"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
