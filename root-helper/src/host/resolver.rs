//! systemd-resolved, over D-Bus: names beneath the VMs' domain are asked of bangerd, through the bridge; nothing else is.

use std::net::Ipv4Addr;

use banger_proto::install::{DNS_PORT, DOMAIN};
use zbus::{Connection, Proxy};

use super::{bus, links};
use crate::error::{Step, StepError};
use crate::request::Switch;

const SERVICE: &str = "org.freedesktop.resolve1";
const MANAGER: &str = "/org/freedesktop/resolve1";
const MANAGER_INTERFACE: &str = "org.freedesktop.resolve1.Manager";
const LINK_INTERFACE: &str = "org.freedesktop.resolve1.Link";
const AF_INET: i32 = 2;

/// A server, as the bus gives it: family, address, port, name for TLS.
type Server = (i32, Vec<u8>, u16, String);

/// Tells it, or takes it back.
pub fn set(bridge: &str, gateway: Ipv4Addr, resolver: Switch) -> Step<()> {
    let attempt = format!("tell systemd-resolved about the bridge {bridge}");
    let Some(index) = links::index(bridge)? else {
        return match resolver {
            Switch::On => Err(StepError::not_found(attempt, "there is no such link")),
            // What was said about a link goes with it.
            Switch::Off => Ok(()),
        };
    };
    let index = i32::try_from(index).map_err(|error| StepError::new(attempt.clone(), error))?;
    bus::talk(&attempt, async |connection| {
        let manager = manager(connection).await?;
        if resolver == Switch::Off {
            return manager.call("RevertLink", &(index,)).await;
        }
        let server: Server = (AF_INET, gateway.octets().to_vec(), DNS_PORT, String::new());
        let () = manager.call("SetLinkDNSEx", &(index, vec![server])).await?;
        // true: only for routing, not appended to names without a dot.
        let () = manager.call("SetLinkDomains", &(index, vec![(DOMAIN, true)])).await?;
        manager.call("SetLinkDefaultRoute", &(index, false)).await
    })
}

/// It still knows.
pub fn is_ready(bridge: &str, gateway: Ipv4Addr) -> Step<bool> {
    let Some(index) = links::index(bridge)? else { return Ok(false) };
    let attempt = format!("ask systemd-resolved about the bridge {bridge}");
    let index = i32::try_from(index).map_err(|error| StepError::new(attempt.clone(), error))?;
    bus::talk(&attempt, async |connection| {
        let answer =
            connection.call_method(Some(SERVICE), MANAGER, Some(MANAGER_INTERFACE), "GetLink", &(index,)).await?;
        let link: zbus::OwnedObjectPath = answer.body().deserialize()?;
        let property = async |name| bus::property(connection, SERVICE, &link, (LINK_INTERFACE, name)).await;
        let servers = Vec::<Server>::try_from(property("DNSEx").await?)?;
        let domains = Vec::<(String, bool)>::try_from(property("Domains").await?)?;
        let is_ours = |(family, address, port, _): &Server| {
            *family == AF_INET && *address == gateway.octets() && *port == DNS_PORT
        };
        Ok(servers.iter().any(is_ours) && domains.contains(&(DOMAIN.to_owned(), true)))
    })
}

async fn manager(connection: &Connection) -> zbus::Result<Proxy<'_>> {
    Proxy::new(connection, SERVICE, MANAGER, MANAGER_INTERFACE).await
}
