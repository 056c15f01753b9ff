//! One task per VM owns its state. Everybody else sends it commands and watches its [`Snapshot`].
//!
//! ```text
//!  API ──commands──▶ queue ──▶ Machine ──▶ platform, store
//!                      │          ▲  └───▶ snapshots (watch) ──▶ API, waiters
//!                      │          └─ events ── control task ◀──▶ guest
//!                      └ plan::admit: a kill or delete interrupts what is under way
//! ```
//! Commands run one after the other; while one runs, arriving ones are admitted by [`plan::admit`]. Waiting
//! for a guest to boot is not a command: waiters watch snapshots (see [`super::wait`]), so a stop, a kill or
//! a delete is never held up by somebody waiting. The effects are in [`machine`] and its siblings.

mod command;
mod launch;
mod machine;
mod remove;
mod settings;
mod stop;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use command::{AfterProvision, DriverHandle, Trouble};
pub use launch::{LaunchError, ProvisionError};
pub use machine::Origin;
pub use remove::RemoveError;
pub use settings::{Change, SetError};
pub use stop::{KillError, StopError};

use super::control::ControlHandle;
use super::guest::GuestProgress;
use super::host::Host;
use super::plan::{self, Admission, Verb};
use super::record::VmRecord;
use command::Command;
use machine::Machine;

/// What the world may know about a VM at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The durable part.
    pub record: Arc<VmRecord>,
    /// How far its guest is.
    pub guest: GuestProgress,
    /// To ask its guest.
    pub control: Option<ControlHandle>,
    /// Its creation has not finished: it may yet vanish.
    pub being_created: bool,
    /// It no longer exists.
    pub removed: bool,
}

impl Snapshot {
    /// A VMM of it is known to run.
    pub fn is_alive(&self) -> bool {
        self.record.runtime.is_some()
    }
}

/// The task of one VM; run it with [`Driver::run`].
pub struct Driver {
    commands: mpsc::Receiver<Command>,
    machine: Machine,
}

impl Driver {
    /// A driver for `record`, and the handle to it.
    pub fn new(host: Arc<Host>, record: VmRecord, origin: Origin) -> (Self, DriverHandle) {
        let (send, commands) = mpsc::channel(64);
        let closing = host.closing.clone();
        let machine = Machine::new(host, record, origin);
        let handle = DriverHandle::new(send, machine.watch(), closing);
        (Self { commands, machine }, handle)
    }

    /// Drives the VM until it is removed or nobody holds a handle any more. The VMM outlives this task.
    pub async fn run(mut self) {
        let mut queue = VecDeque::new();
        self.machine.resume().await;
        loop {
            let command = match queue.pop_front() {
                Some(command) => command,
                None => {
                    tokio::select! {
                        event = self.machine.next_event() => {
                            self.machine.note(event).await;
                            continue;
                        }
                        command = self.commands.recv() => match command {
                            Some(command) => command,
                            None => return,
                        },
                    }
                }
            };
            self.perform(command, &mut queue).await;
            if self.machine.is_removed() {
                self.commands.close();
                while let Some(late) = self.commands.recv().await {
                    queue.push_back(late);
                }
                // Dropped replies tell the senders that the VM is gone.
                return;
            }
        }
    }

    /// Runs one command while admitting others.
    async fn perform(&mut self, command: Command, queue: &mut VecDeque<Command>) {
        let Self { commands, machine } = self;
        let verb = command.verb();
        let preempt = CancellationToken::new();
        // A start is interrupted the way its user would interrupt it; a stop has its own way to hurry.
        let cancel = match verb {
            Verb::Provision | Verb::Launch => command.cancellation(),
            Verb::Stop | Verb::Kill | Verb::Remove | Verb::Note => None,
        };
        let hurry = || {
            preempt.cancel();
            if let Some(cancel) = &cancel {
                cancel.cancel();
            }
        };
        if queue.iter().any(|waiting| plan::admit(verb, waiting.verb()) == Admission::Preempt) {
            hurry();
        }
        let mut work = pin!(command.run(machine, &preempt));
        let mut open = true;
        loop {
            tokio::select! {
                () = &mut work => return,
                arriving = commands.recv(), if open => match arriving {
                    Some(arriving) => {
                        if plan::admit(verb, arriving.verb()) == Admission::Preempt {
                            hurry();
                        }
                        queue.push_back(arriving);
                    }
                    None => open = false,
                },
            }
        }
    }
}

/// Where snapshots of one VM come from.
pub(super) type Snapshots = watch::Receiver<Snapshot>;
