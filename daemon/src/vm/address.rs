//! Which address the next guest gets. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use banger_proto::install::Subnet;

/// The first free guest address of `pool` behind `after`, going round. The one that was given last is the last to be
/// given again: what the host and other programs remember about an address must not lead to its next guest.
pub fn choose(pool: Subnet, taken: &BTreeSet<Ipv4Addr>, after: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let behind = |address: &Ipv4Addr| after.is_none_or(|after| *address > after);
    let free = |address: &Ipv4Addr| !taken.contains(address);
    pool.guests().filter(behind).chain(pool.guests()).find(free)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn next(taken: &[u8], after: Option<u8>) -> Option<u8> {
        let address = |host: u8| Ipv4Addr::new(172, 16, 0, host);
        let taken = taken.iter().copied().map(address).collect();
        choose("172.16.0.0/28".parse().unwrap(), &taken, after.map(address)).map(|found| found.octets()[3])
    }

    #[test]
    fn addresses_go_round_and_come_back_to_what_is_free() {
        assert_eq!(next(&[], None), Some(2));
        assert_eq!(next(&[2, 3], Some(3)), Some(4));
        assert_eq!(next(&[3, 4], Some(4)), Some(5), "2 is free, but was given a moment ago");
        assert_eq!(next(&[3, 14], Some(14)), Some(2));
        assert_eq!(next(&[5], Some(200)), Some(2), "the network was changed");
    }

    #[test]
    fn a_full_network_has_none() {
        let all: Vec<u8> = (2..15).collect();
        assert_eq!(next(&all, Some(9)), None);
    }
}
