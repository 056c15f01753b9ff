//! What the guest kernel is told. The user's own arguments come last, so they win.

use super::accel::Accel;

/// When an argument applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Only without hardware acceleration.
    Tcg,
}

struct Argument {
    text: &'static str,
    when: When,
    /// Why it is there. Read by people only.
    #[allow(dead_code)]
    reason: &'static str,
}

const fn always(text: &'static str, reason: &'static str) -> Argument {
    Argument { text, when: When::Always, reason }
}

const fn under_tcg(text: &'static str, reason: &'static str) -> Argument {
    Argument { text, when: When::Tcg, reason }
}

/// What was tried and gained nothing (docs/decisions/0003-qemu-flags.md) is not here.
const ARGUMENTS: &[Argument] = &[
    always("console=ttyS0", "the console log is how a guest that never answers explains itself"),
    always("quiet", "each character on the serial port is an exit to QEMU"),
    always("loglevel=4", "errors and panics still reach the console log"),
    always(
        "panic=-1",
        "a panicked guest reboots at once, its last words stay in the console log: staying as it is would burn \
         a host CPU until somebody looks. A bad kernel argument reboots until bangerd gives up on an answer",
    ),
    always("nowatchdog", "a vCPU that gets no host CPU for a while is not locked up"),
    under_tcg(
        "oops=panic",
        "with two vCPUs QEMU 7.2 now and then runs an instruction the kernel has patched away (decision 3); \
         rebooting heals that, a kernel that lost a thread does not answer",
    ),
    under_tcg("tsc=reliable", "one host clock feeds every vCPU; unasked, the kernel falls back to the slow acpi_pm"),
    under_tcg("no_timer_check", "the emulated timer works; the check can fail when the host is busy"),
    under_tcg("cryptomgr.notests", "0.2 s of self-tests against the kernel's own table of expected results"),
];

/// The whole command line.
pub fn render(accel: Accel, more: &[String]) -> String {
    let ours = ARGUMENTS
        .iter()
        .filter(|argument| match argument.when {
            When::Always => true,
            When::Tcg => accel == Accel::Tcg,
        })
        .map(|argument| argument.text);
    ours.chain(more.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_arguments_come_last() {
        let line = render(Accel::Tcg, &["panic=1".into(), "audit=0".into()]);
        assert!(line.starts_with("console=ttyS0 quiet "), "{line}");
        assert!(line.ends_with(" panic=1 audit=0"), "{line}");
    }

    #[test]
    fn what_is_true_of_emulation_only_is_not_said_to_hardware() {
        for argument in ["tsc=reliable", "cryptomgr.notests", "oops=panic"] {
            assert!(render(Accel::Tcg, &[]).contains(argument), "{argument}");
            assert!(!render(Accel::Kvm, &[]).contains(argument), "{argument}");
        }
        assert!(!render(Accel::Tcg, &[]).contains("mitigations"));
    }
}
