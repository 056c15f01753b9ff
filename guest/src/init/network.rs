//! The loopback link and the first Ethernet link, by netlink.
//!
//! Static: the host chose the address. No DHCP, no waiting for anything but the device.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use banger_proto::guest::v1::Network;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

const APPEARANCE_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(3);
const LOOPBACK_INDEX: u32 = 1;

/// Why the guest has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No netlink.
    #[error("cannot open a netlink socket")]
    Open {
        /// What the kernel said.
        source: std::io::Error,
    },
    /// An address of the seed is not one.
    #[error("the seed's {what} '{text}' is not an IPv4 address or prefix")]
    Address {
        /// Which.
        what: &'static str,
        /// As given.
        text: String,
    },
    /// No link.
    #[error("no Ethernet link appeared within {seconds} s")]
    NoLink {
        /// How long was waited.
        seconds: u64,
    },
    /// The kernel refused.
    #[error("cannot {step}")]
    Refused {
        /// Which step.
        step: &'static str,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
}

/// Brings up loopback and, if the seed has a network, the first Ethernet link.
///
/// # Errors
/// [`NetworkError`].
pub fn configure(network: Option<&Network>) -> Result<(), NetworkError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| NetworkError::Open { source })?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| NetworkError::Open { source })?;
        tokio::spawn(connection);
        up(&handle, LOOPBACK_INDEX, "bring up the loopback link").await?;
        match network.filter(|network| !network.address.is_empty()) {
            Some(network) => configure_ethernet(&handle, network).await,
            None => Ok(()),
        }
    })
}

async fn configure_ethernet(handle: &Handle, network: &Network) -> Result<(), NetworkError> {
    let address = parse("address", &network.address)?;
    let prefix = u8::try_from(network.prefix_length).ok().filter(|prefix| *prefix <= 32);
    let prefix = prefix
        .ok_or_else(|| NetworkError::Address { what: "prefix length", text: network.prefix_length.to_string() })?;
    let index = find_ethernet().await?;
    up(handle, index, "bring up the Ethernet link").await?;
    let added = handle.address().add(index, address.into(), prefix).replace().execute().await;
    added.map_err(|source| NetworkError::Refused { step: "set the address", source })?;
    if !network.gateway.is_empty() {
        let gateway = parse("gateway", &network.gateway)?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).build();
        let added = handle.route().add(route).replace().execute().await;
        added.map_err(|source| NetworkError::Refused { step: "set the default route", source })?;
    }
    Ok(())
}

async fn up(handle: &Handle, index: u32, step: &'static str) -> Result<(), NetworkError> {
    let message = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(message).execute().await.map_err(|source| NetworkError::Refused { step, source })
}

fn parse(what: &'static str, text: &str) -> Result<Ipv4Addr, NetworkError> {
    text.parse().map_err(|_| NetworkError::Address { what, text: text.to_owned() })
}

async fn find_ethernet() -> Result<u32, NetworkError> {
    let deadline = Instant::now() + APPEARANCE_LIMIT;
    loop {
        if let Some(index) = find_ethernet_now(Path::new("/sys/class/net")) {
            return Ok(index);
        }
        if Instant::now() > deadline {
            return Err(NetworkError::NoLink { seconds: APPEARANCE_LIMIT.as_secs() });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The lowest index among links of Ethernet type with a device behind them.
fn find_ethernet_now(links: &Path) -> Option<u32> {
    let number = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    let links = std::fs::read_dir(links).ok()?.flatten().map(|link| link.path());
    let ethernet = links.filter(|link| link.join("device").exists() && number(&link.join("type")) == Some(1));
    ethernet.filter_map(|link| number(&link.join("ifindex"))).min()
}
