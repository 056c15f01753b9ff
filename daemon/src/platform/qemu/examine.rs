//! What the rootless mode needs of the host.

use super::tools::{QEMU, QEMU_IMG};
use crate::doctor::{Finding, tool};

/// One finding each.
pub async fn host() -> Vec<Finding> {
    let (emulator_hint, disk_tool_hint) = (QEMU.install_hint(), QEMU_IMG.install_hint());
    let (emulator, disk_tool) =
        tokio::join!(tool("QEMU", QEMU.name, &emulator_hint), tool("QEMU disk tool", QEMU_IMG.name, &disk_tool_hint),);
    vec![kvm(), emulator, disk_tool]
}

/// As the VMM decides it: the device must open and the CPU must really virtualize.
fn kvm() -> Finding {
    const TITLE: &str = "hardware virtualization";
    const SLOW: &str = "VMs are emulated (tcg), which is several times slower";
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtualizes = flags
        .lines()
        .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
    let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    match (virtualizes, opened) {
        (true, Ok(_)) => Finding::pass(TITLE, "/dev/kvm can be used"),
        (false, _) => Finding::warn(
            TITLE,
            format!("the CPU offers neither vmx nor svm: {SLOW}"),
            "Enable virtualization in the firmware, or nested virtualization on the outer host; check with `grep -c -E 'vmx|svm' /proc/cpuinfo`.",
        ),
        (true, Err(error)) => Finding::warn(
            TITLE,
            format!("/dev/kvm cannot be opened ({error}): {SLOW}"),
            "Load the module with `sudo modprobe kvm` and join the group with `sudo usermod -aG kvm $USER`.",
        ),
    }
}
