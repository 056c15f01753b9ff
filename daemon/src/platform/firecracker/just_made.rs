//! VMs whose link and disks were made a moment ago: their start need not ask the helper what it has.
//!
//! A moment is as long as a running guest waits for somebody to notice that its link is gone. Later, everything may have
//! happened, and the start looks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use banger_proto::names::VmId;

use crate::vm::watch::INTERVAL as MOMENT;

/// See the module.
#[derive(Debug, Default)]
pub struct JustMade(Mutex<HashMap<VmId, Instant>>);

impl JustMade {
    /// They were made now.
    pub fn note(&self, vm: &VmId) {
        self.note_at(vm, Instant::now());
    }

    /// True once, and only for a moment.
    pub fn take(&self, vm: &VmId) -> bool {
        self.take_at(vm, Instant::now())
    }

    fn note_at(&self, vm: &VmId, now: Instant) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|_, then| is_recent(*then, now));
        made.insert(vm.clone(), now);
    }

    fn take_at(&self, vm: &VmId, now: Instant) -> bool {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(vm);
        made.is_some_and(|then| is_recent(then, now))
    }
}

fn is_recent(then: Instant, now: Instant) -> bool {
    now.saturating_duration_since(then) < MOMENT
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_true_once_and_for_a_moment() {
        let id = |digit: &str| -> VmId { digit.repeat(32).parse().unwrap() };
        let (one, two, made, now) = (id("1"), id("2"), JustMade::default(), Instant::now());
        made.note_at(&one, now);
        made.note_at(&two, now);
        assert!(made.take_at(&one, now + MOMENT / 2));
        assert!(!made.take_at(&one, now + MOMENT / 2), "a second start looks");
        assert!(!made.take_at(&two, now + MOMENT));
        made.note_at(&two, now);
        made.note_at(&one, now + MOMENT);
        assert_eq!(made.0.lock().unwrap().len(), 1, "what nobody asked for is forgotten");
    }
}
