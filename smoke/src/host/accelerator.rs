//! Real virtualisation where it can be nested, else a CPU that is emulated together with its virtualisation.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// How QEMU runs the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// KVM, with nesting.
    Kvm,
    /// Everything emulated; the CPU is one with AMD's SVM, which QEMU emulates completely.
    Tcg,
}

impl Accelerator {
    /// The best one this machine has.
    pub fn observe() -> Self {
        if nesting_is_on() && qemu_can_use_kvm() { Self::Kvm } else { Self::Tcg }
    }

    /// For the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// QEMU's options. `thread=multi` and a large translation buffer halve the boot under emulation.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "EPYC-Rome,+svm,+npt"],
        }
    }
}

fn nesting_is_on() -> bool {
    ["kvm_amd", "kvm_intel"].iter().any(|module| {
        let switch = fs::read_to_string(format!("/sys/module/{module}/parameters/nested"));
        switch.is_ok_and(|text| matches!(text.trim(), "1" | "Y"))
    })
}

/// The device may be there and refuse: QEMU makes a VM or says that it cannot.
fn qemu_can_use_kvm() -> bool {
    let mut command = Command::new("timeout");
    command.args(["20", "qemu-system-x86_64", "-accel", "kvm", "-M", "none", "-display", "none", "-nodefaults"]);
    command.args(["-monitor", "stdio"]).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return false };
    if let Some(mut monitor) = child.stdin.take() {
        // A QEMU that has ended already says so by its status.
        let _ = monitor.write_all(b"quit\n");
    }
    child.wait().is_ok_and(|status| status.success())
}
