//! Which virtual machine monitor runs this guest. It says so on the kernel's command line.

use std::path::Path;

use banger_proto::guest_contract::FIRECRACKER_ARGUMENT;
use rustix::system::RebootCommand;

/// What the guest has to do differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// QEMU: it powers off.
    Qemu,
    /// Firecracker: it cannot be powered off, only reset, and a reset ends it.
    Firecracker,
}

impl Machine {
    /// This one. Without /proc it is taken for QEMU, where the worst that follows is a machine that stays.
    pub fn observe() -> Self {
        Self::of(&std::fs::read_to_string(Path::new("/proc/cmdline")).unwrap_or_default())
    }

    /// The one whose kernel has this command line.
    pub fn of(command_line: &str) -> Self {
        let told = command_line.split_ascii_whitespace().any(|argument| argument == FIRECRACKER_ARGUMENT);
        if told { Self::Firecracker } else { Self::Qemu }
    }

    /// What ends the machine.
    pub fn end_command(self) -> RebootCommand {
        match self {
            Self::Qemu => RebootCommand::PowerOff,
            Self::Firecracker => RebootCommand::Restart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_argument_tells() {
        let is = |line| Machine::of(line) == Machine::Firecracker;
        assert!(is("console=ttyS0 banger.vmm=firecracker panic=-1\n"));
        assert!(!is("console=ttyS0 panic=-1\n") && !is("x=banger.vmm=firecracker banger.vmm=firecracker2"));
    }
}
