//! How a session ended and which exit status of ours that is.

use banger_sync::ssh::ExitStatus;

use crate::error::OUTPUT_CLOSED_STATUS;
use crate::interrupt::Interrupt;

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The command returned this.
    Code(u8),
    /// A signal ended the command.
    Signal {
        /// Without `SIG`.
        name: String,
    },
    /// Nobody reads our output any more.
    OutputClosed,
    /// The user did not want to wait longer.
    GaveUp(Interrupt),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match status {
            // A process status has eight bits; the protocol's number could be longer.
            ExitStatus::Code(code) => Self::Code((code & 0xff) as u8),
            ExitStatus::Signal(name) => Self::Signal { name },
        }
    }
}

impl End {
    /// As a shell would report it.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Code(code) => *code,
            Self::Signal { name } => 128 + signal_number(name),
            Self::OutputClosed => OUTPUT_CLOSED_STATUS,
            Self::GaveUp(interrupt) => 128 + interrupt_number(*interrupt),
        }
    }

    /// Name of the signal that ended the command.
    pub fn signal(&self) -> Option<&str> {
        match self {
            Self::Signal { name } => Some(name),
            Self::Code(_) | Self::OutputClosed | Self::GaveUp(_) => None,
        }
    }
}

fn interrupt_number(interrupt: Interrupt) -> u8 {
    match interrupt {
        Interrupt::Hup => 1,
        Interrupt::Int => 2,
        Interrupt::Quit => 3,
        Interrupt::Term => 15,
    }
}

/// Linux numbers of the names SSH carries. An unknown one still is a signal: 128 alone says so.
fn signal_number(name: &str) -> u8 {
    match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "TRAP" => 5,
        "ABRT" => 6,
        "BUS" => 7,
        "FPE" => 8,
        "KILL" => 9,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        "XCPU" => 24,
        "XFSZ" => 25,
        "SYS" => 31,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        let status = |status| End::from(status).exit_status();
        assert_eq!(status(ExitStatus::Code(0)), 0);
        assert_eq!(status(ExitStatus::Code(42)), 42);
        assert_eq!(status(ExitStatus::Code(255)), 255);
        assert_eq!(status(ExitStatus::Signal("KILL".into())), 137);
        assert_eq!(status(ExitStatus::Signal("TERM".into())), 143);
        assert_eq!(status(ExitStatus::Signal("ODD".into())), 128);
        assert_eq!(End::OutputClosed.exit_status(), 141);
        assert_eq!(End::GaveUp(Interrupt::Int).exit_status(), 130);
    }
}
