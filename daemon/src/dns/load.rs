//! How much is under way, and for whom: no guest can keep the others from being answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For everybody together.
    pub total: usize,
    /// For one client.
    pub per_client: usize,
}

/// Who has how much under way. Clones share it.
#[derive(Debug, Clone)]
pub struct Load {
    limits: Limits,
    clients: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One thing under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Slot {
    client: IpAddr,
    load: Load,
}

impl Load {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, clients: Arc::default() }
    }

    /// Room for one more of `client`, if there is any.
    pub fn enter(&self, client: IpAddr) -> Option<Slot> {
        let mut clients = self.lock();
        let total: usize = clients.values().sum();
        let own = clients.entry(client).or_default();
        if total >= self.limits.total || *own >= self.limits.per_client {
            return None;
        }
        *own += 1;
        Some(Slot { client, load: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut clients = self.load.lock();
        if let Some(own) = clients.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_take_the_room_of_all() {
        let load = Load::new(Limits { total: 3, per_client: 2 });
        let (one, two): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = load.enter(one).unwrap();
        let _second = load.enter(one).unwrap();
        assert!(load.enter(one).is_none());
        let _third = load.enter(two).unwrap();
        assert!(load.enter(two).is_none(), "all is taken");
        drop(first);
        load.enter(two).unwrap();
        assert_eq!(load.lock().len(), 2, "nobody who has nothing under way is remembered");
    }
}
