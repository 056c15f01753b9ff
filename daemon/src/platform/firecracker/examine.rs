//! What system mode needs of the host.

use std::path::Path;

use banger_proto::failure::{Classified as _, Failure};

use super::FirecrackerPlatform;
use crate::doctor::{Finding, tool};
use crate::platform::work_disk::MKE2FS;

impl FirecrackerPlatform {
    pub(super) async fn examine_host(&self) -> Vec<Finding> {
        let hint = "Install it again with `sudo banger system install --owner USER`.";
        let (firecracker, jailer) = (self.programs.join("firecracker"), self.programs.join("jailer"));
        let (firecracker, jailer) = (firecracker.to_string_lossy(), jailer.to_string_lossy());
        let (firecracker, jailer, helper) = tokio::join!(
            tool("Firecracker", &firecracker, hint),
            tool("jailer", &jailer, hint),
            self.examine_helper(),
        );
        let mut findings = vec![kvm(), firecracker, jailer, disk_tool()];
        findings.extend(helper);
        findings
    }

    async fn examine_helper(&self) -> Vec<Finding> {
        const HELPER: &str = "root helper";
        const NETWORK: &str = "network of the VMs";
        const RESOLVER: &str = "names of VMs on this host";
        let holdings = match self.root.inventory("doctor").await {
            Ok(holdings) => holdings,
            Err(error) => {
                let hints = error.hints().join(" ");
                return vec![Finding::fail(HELPER, Failure::from_error(&error).to_string(), hints)];
            }
        };
        let network = if holdings.network_ready {
            Finding::pass(NETWORK, format!("bridge and rules for {} are in place", self.subnet))
        } else {
            let hint = "It is put right every few seconds; see why it is not with `journalctl -u bangerd-root`.";
            Finding::fail(NETWORK, "the bridge, its rules or a link are missing", hint)
        };
        let resolver = if holdings.resolver_ready {
            Finding::pass(RESOLVER, "systemd-resolved asks bangerd")
        } else {
            let hint = "Check `systemctl status systemd-resolved`; without it use the addresses of `banger vm list`.";
            Finding::warn(RESOLVER, "systemd-resolved does not ask bangerd", hint)
        };
        let count = holdings.vms.len();
        vec![Finding::pass(HELPER, format!("answers and holds something of {count} VMs")), network, resolver]
    }
}

/// The device belongs to root and each jail has its own: we only look whether the kernel offers it.
fn kvm() -> Finding {
    const TITLE: &str = "hardware virtualization";
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtualizes =
        |line: &str| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    if !flags.lines().any(virtualizes) {
        let hint = "Enable virtualization in the firmware, or nested virtualization on the outer host; check with \
                    `grep -c -E 'vmx|svm' /proc/cpuinfo`.";
        return Finding::fail(TITLE, "the CPU offers neither vmx nor svm: no VM can start", hint);
    }
    if !Path::new("/sys/class/misc/kvm").exists() {
        return Finding::fail(TITLE, "the kernel offers no /dev/kvm", "Load the module with `sudo modprobe kvm`.");
    }
    Finding::pass(TITLE, "the kernel offers /dev/kvm")
}

fn disk_tool() -> Finding {
    const TITLE: &str = "disk tool";
    match crate::platform::programs::find(MKE2FS) {
        Ok(path) => Finding::pass(TITLE, path.display().to_string()),
        Err(error) => Finding::fail(TITLE, error.to_string(), error.hints().join(" ")),
    }
}
