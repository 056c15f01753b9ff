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

/// Measured in docs/decisions/0003-qemu-flags.md; what gained nothing there is not here.
const ARGUMENTS: &[Argument] = &[
    always("console=ttyS0", "the console log is how a guest that never answers explains itself"),
    always("quiet", "each character on the serial port is an exit to QEMU"),
    always("loglevel=4", "errors and panics still reach the console log"),
    always(
        "panic=0",
        "a panicked guest stays as it is until bangerd gives up on it: rebooting would loop on a bad kernel \
         argument, and QEMU cannot tell that reboot from one the user asked for",
    ),
    always("random.trust_cpu=on", "nothing in early boot waits for entropy; virtio-rng adds to it later"),
    always("rcupdate.rcu_expedited=1", "grace periods cost latency at boot and there are few CPUs to disturb"),
    always("nowatchdog", "a vCPU that gets no host CPU for a while is not locked up"),
    under_tcg("mitigations=off", "translated code does not speculate, so there is nothing to mitigate"),
    under_tcg("no_timer_check", "the emulated timer works; the check can fail when the host is busy"),
    under_tcg("tsc=reliable", "one host clock feeds every vCPU; without it the kernel falls back to a slow timer"),
    under_tcg("cryptomgr.notests", "the self-tests exercise CPU features that are emulated here"),
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
    fn mitigations_stay_on_where_the_cpu_really_speculates() {
        assert!(render(Accel::Tcg, &[]).contains("mitigations=off"));
        assert!(!render(Accel::Kvm, &[]).contains("mitigations"));
    }
}
