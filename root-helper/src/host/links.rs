//! Bridge and taps through rtnetlink; the taps themselves are made by [`syscalls::tap`](crate::syscalls::tap).
//!
//! Each call opens a netlink socket of its own and closes it: nothing is kept that could go stale.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use banger_proto::install::guest_mac;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec};

use crate::error::{Step, StepError, step};

const LIMIT: Duration = Duration::from_secs(10);

/// An address with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixed {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the network.
    pub prefix: u8,
}

/// True if there is a link of this name.
pub fn exists(name: &str) -> Step<bool> {
    talk(format!("look for the link {name}"), async |handle| Ok(find(&handle, name).await?.is_some()))
}

/// The bridge, up, with its address; made if need be.
pub fn ensure_bridge(name: &str, gateway: Prefixed) -> Step<()> {
    talk(format!("set up the bridge {name}"), async |handle| {
        if find(&handle, name).await?.is_none() {
            // An address of its own, or it would take a port's, and change it whenever a VM comes or goes.
            let address = guest_mac(gateway.address).to_vec();
            let bridge = LinkMessageBuilder::<LinkBridge>::new(name).address(address).build();
            handle.link().add(bridge).execute().await?;
        }
        let link = find(&handle, name).await?.ok_or(rtnetlink::Error::RequestFailed)?;
        let index = link.header.index;
        if !has_address(&handle, index, gateway).await? {
            handle.address().add(index, IpAddr::V4(gateway.address), gateway.prefix).execute().await?;
        }
        if !link.header.flags.contains(LinkFlags::Up) {
            forgo_ipv6(&handle, index).await?;
            handle.link().change(LinkUnspec::new_with_index(index).up().build()).execute().await?;
        }
        Ok(())
    })
}

/// The bridge is as [`ensure_bridge`] leaves it.
pub fn is_bridge_ready(name: &str, gateway: Prefixed) -> Step<bool> {
    talk(format!("look at the bridge {name}"), async |handle| match find(&handle, name).await? {
        Some(link) if link.header.flags.contains(LinkFlags::Up) => {
            has_address(&handle, link.header.index, gateway).await
        }
        _ => Ok(false),
    })
}

/// An existing tap, isolated on the bridge, up.
pub fn enslave(tap: &str, bridge: &str) -> Step<()> {
    talk(format!("put the tap {tap} on the bridge {bridge}"), async |handle| {
        let missing = rtnetlink::Error::RequestFailed;
        let bridge = find(&handle, bridge).await?.ok_or(missing)?.header.index;
        let port = find(&handle, tap).await?.ok_or(rtnetlink::Error::RequestFailed)?.header.index;
        forgo_ipv6(&handle, port).await?;
        handle.link().change(LinkUnspec::new_with_index(port).controller(bridge).build()).execute().await?;
        // Isolated before it is up: no frame passes between two guests, not even the first.
        handle.link().set_port(LinkBridgePort::new(port).isolated(true).build()).execute().await?;
        handle.link().change(LinkUnspec::new_with_index(port).up().build()).execute().await?;
        Ok(())
    })
}

/// The tap is as [`enslave`] leaves it.
pub fn is_port_ready(tap: &str, bridge: &str) -> Step<bool> {
    talk(format!("look at the tap {tap}"), async |handle| {
        let (Some(port), Some(bridge)) = (find(&handle, tap).await?, find(&handle, bridge).await?) else {
            return Ok(false);
        };
        let is_on_bridge = port.attributes.contains(&LinkAttribute::Controller(bridge.header.index));
        Ok(is_on_bridge && port.header.flags.contains(LinkFlags::Up))
    })
}

/// The link is gone.
pub fn remove(name: &str) -> Step<()> {
    talk(format!("remove the link {name}"), async |handle| match find(&handle, name).await? {
        Some(link) => handle.link().del(link.header.index).execute().await,
        None => Ok(()),
    })
}

/// The link's number.
pub fn index(name: &str) -> Step<Option<u32>> {
    talk(format!("look for the link {name}"), async |handle| {
        Ok(find(&handle, name).await?.map(|link| link.header.index))
    })
}

/// No IPv6 address of the link's own: guests have none to talk to it.
async fn forgo_ipv6(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let attribute = LinkAttribute::AfSpecUnspec(vec![mode]);
    let link = LinkUnspec::new_with_index(index).append_extra_attribute(attribute).build();
    match handle.link().change(link).execute().await {
        // A kernel without IPv6.
        Err(error) if is_errno(&error, libc::EAFNOSUPPORT) => Ok(()),
        outcome => outcome,
    }
}

async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, rtnetlink::Error> {
    match handle.link().get().match_name(name).execute().try_next().await {
        // ENODEV is the kernel's way to say that there is none.
        Err(error) if is_errno(&error, libc::ENODEV) => Ok(None),
        found => found,
    }
}

fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.to_io().raw_os_error() == Some(errno))
}

async fn has_address(handle: &Handle, index: u32, expected: Prefixed) -> Result<bool, rtnetlink::Error> {
    let mut addresses = handle.address().get().set_link_index_filter(index).execute();
    while let Some(found) = addresses.try_next().await? {
        let is_expected = found.attributes.contains(&AddressAttribute::Address(IpAddr::V4(expected.address)));
        if is_expected && found.header.prefix_len == expected.prefix {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One conversation with the kernel, bounded.
fn talk<T>(attempt: String, dialogue: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>) -> Step<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(step(attempt.clone()))?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(step(attempt.clone()))?;
        tokio::spawn(connection);
        match tokio::time::timeout(LIMIT, dialogue(handle)).await {
            Ok(outcome) => outcome.map_err(step(attempt)),
            Err(_) => Err(StepError::new(attempt, format!("the kernel did not answer within {} s", LIMIT.as_secs()))),
        }
    })
}
