//! The states of a VM and the events that move between them. Pure.
//!
//! ```text
//!            provisioned          launched            reachable
//!  Created ─────────────▶ Provisioned ──────▶ Booting ──────────▶ Running ──┐
//!                              ▲                 │  ▲               │  │    │ stop asked
//!                              │ launched        │  │ reachable     │  │    ▼
//!                              │ again    exited │  │ after all     │  │  Stopping
//!                           Stopped      failed  ▼  │        failed │  │    │
//!                              ▲      unanswered Broken ◀───────────┘  │    │ exited
//!                              └───────────────────┴──────────exited───┴────┘
//! ```
//! A `Broken` VM may still have a living VMM (its guest never answered): whether one lives is told by the
//! record's runtime, never by the state alone.

use std::fmt;

/// Where a VM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmState {
    /// Reserved; nothing on disk yet.
    Created,
    /// Its disks exist; it never ran.
    Provisioned,
    /// The VMM runs; the guest has not reported yet.
    Booting,
    /// Commands can run in the guest.
    Running,
    /// The guest was asked to power off.
    Stopping,
    /// Its VMM ended; its disks remain.
    Stopped,
    /// It needs attention; the record's `last_error` says why.
    Broken,
}

impl VmState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 7] =
        [Self::Created, Self::Provisioned, Self::Booting, Self::Running, Self::Stopping, Self::Stopped, Self::Broken];

    /// The word for people and for the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Provisioned => "provisioned",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Broken => "broken",
        }
    }

    /// The inverse of [`name`](Self::name).
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == text)
    }

    /// The state after `event`. Events that make no sense in a state change nothing: they come from the
    /// outside world (a guest reporting late, a process ending) and arrive in any order.
    #[must_use]
    pub fn after(self, event: LifeEvent) -> Self {
        use LifeEvent as E;
        match (self, event) {
            (Self::Created, E::Provisioned) => Self::Provisioned,
            (_, E::Provisioned) => self,

            (Self::Created, E::Launched) => self,
            (_, E::Launched) => Self::Booting,

            (Self::Booting | Self::Broken, E::Reachable) => Self::Running,
            (_, E::Reachable) => self,

            (Self::Booting | Self::Running, E::GuestFailed) => Self::Broken,
            (_, E::GuestFailed) => self,

            (Self::Booting, E::Unanswered) => Self::Broken,
            (_, E::Unanswered) => self,

            (Self::Booting | Self::Running | Self::Broken, E::StopAsked) => Self::Stopping,
            (_, E::StopAsked) => self,

            // Nobody asked for it and nothing ever ran in there: worth a look.
            (Self::Booting | Self::Broken, E::Exited) => Self::Broken,
            (Self::Running | Self::Stopping | Self::Stopped, E::Exited) => Self::Stopped,
            (Self::Created | Self::Provisioned, E::Exited) => self,

            (Self::Created | Self::Provisioned, E::Killed) => self,
            (_, E::Killed) => Self::Stopped,
        }
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happened to a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeEvent {
    /// Both disks exist.
    Provisioned,
    /// The VMM was started.
    Launched,
    /// The guest runs commands.
    Reachable,
    /// The guest's init gave up.
    GuestFailed,
    /// The guest did not report in time.
    Unanswered,
    /// Somebody asked it to stop.
    StopAsked,
    /// The VMM ended without our doing.
    Exited,
    /// We ended the VMM.
    Killed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_life_visits_every_state_but_broken() {
        let mut state = VmState::Created;
        for (event, expected) in [
            (LifeEvent::Provisioned, VmState::Provisioned),
            (LifeEvent::Launched, VmState::Booting),
            (LifeEvent::Reachable, VmState::Running),
            (LifeEvent::StopAsked, VmState::Stopping),
            (LifeEvent::Exited, VmState::Stopped),
            (LifeEvent::Launched, VmState::Booting),
        ] {
            state = state.after(event);
            assert_eq!(state, expected);
        }
    }

    #[test]
    fn a_vmm_that_dies_before_the_guest_reported_leaves_the_vm_broken() {
        assert_eq!(VmState::Booting.after(LifeEvent::Exited), VmState::Broken);
        assert_eq!(VmState::Running.after(LifeEvent::Exited), VmState::Stopped);
    }

    #[test]
    fn a_guest_that_answers_late_is_running_after_all() {
        let late = VmState::Booting.after(LifeEvent::Unanswered);
        assert_eq!(late, VmState::Broken);
        assert_eq!(late.after(LifeEvent::Reachable), VmState::Running);
    }

    #[test]
    fn a_stopping_guest_that_reports_once_more_is_still_stopping() {
        assert_eq!(VmState::Stopping.after(LifeEvent::Reachable), VmState::Stopping);
        assert_eq!(VmState::Stopped.after(LifeEvent::Reachable), VmState::Stopped);
    }

    #[test]
    fn names_are_parsed_back() {
        for state in VmState::ALL {
            assert_eq!(VmState::parse(state.name()), Some(state));
        }
        assert_eq!(VmState::parse("paused"), None);
    }
}
