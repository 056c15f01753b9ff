//! Which modules the initrd needs and in which order they load. Pure: texts of depmod in, a plan out.

use std::collections::{BTreeMap, BTreeSet};

/// What a guest of QEMU needs to find its disks, its link and its control channel. Newer distribution kernels
/// have virtio over PCI and the console built in; Debian's 6.1 does not.
pub const FIRST: [&str; 6] = ["virtio_pci", "virtio_blk", "failover", "net_failover", "virtio_net", "virtio_console"];
/// What a guest of Firecracker needs besides.
pub const FIRECRACKER: [&str; 4] =
    ["virtio_mmio", "vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"];
/// A kernel that has these neither as modules nor built in cannot find its root.
const NEEDED: [&str; 2] = ["virtio_blk", "virtio_net"];

/// The plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModulePlan {
    /// Paths relative to /lib/modules/<release>, dependencies first.
    pub first: Vec<String>,
    /// The same for Firecracker; nothing that `first` has already.
    pub firecracker: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModulesError {
    /// The kernel cannot run as a guest.
    #[error("the kernel has no {name}, neither as a module nor built in")]
    Missing {
        /// The module.
        name: &'static str,
    },
    /// depmod's output contradicts itself.
    #[error("modules.dep lets {path} depend on itself")]
    Cycle {
        /// The module.
        path: String,
    },
}

/// Plans from the texts of modules.dep and modules.builtin.
///
/// # Errors
/// [`ModulesError`].
pub fn plan_modules(dep: &str, builtin: &str) -> Result<ModulePlan, ModulesError> {
    let dependencies = parse_dep(dep);
    let by_name: BTreeMap<String, &str> = dependencies.keys().map(|path| (module_name(path), *path)).collect();
    let built_in: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let mut seen = BTreeSet::new();
    let mut collect = |names: &[&'static str]| {
        let mut order = Vec::new();
        for name in names {
            match by_name.get(*name) {
                Some(path) => visit(path, &dependencies, &mut seen, &mut Vec::new(), &mut order)?,
                None if !built_in.contains(*name) && NEEDED.contains(name) => {
                    return Err(ModulesError::Missing { name });
                }
                None => {}
            }
        }
        Ok(order)
    };
    Ok(ModulePlan { first: collect(&FIRST)?, firecracker: collect(&FIRECRACKER)? })
}

/// `kernel/drivers/net/virtio_net.ko.xz` → `virtio_net`. The kernel treats '-' and '_' alike.
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn parse_dep(dep: &str) -> BTreeMap<&str, Vec<&str>> {
    dep.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (path.trim(), needs.split_whitespace().collect()))
        .collect()
}

fn visit<'a>(
    path: &'a str,
    dependencies: &BTreeMap<&'a str, Vec<&'a str>>,
    seen: &mut BTreeSet<String>,
    stack: &mut Vec<&'a str>,
    order: &mut Vec<String>,
) -> Result<(), ModulesError> {
    if stack.contains(&path) {
        return Err(ModulesError::Cycle { path: path.to_owned() });
    }
    if !seen.insert(path.to_owned()) {
        return Ok(());
    }
    stack.push(path);
    // depmod lists the closest dependency first; the farthest loads first.
    for needed in dependencies.get(path).into_iter().flatten().rev() {
        visit(needed, dependencies, seen, stack, order)?;
    }
    stack.pop();
    order.push(path.to_owned());
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/drivers/block/virtio_blk.ko.xz:
kernel/net/core/failover.ko.xz:
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/net/vmw_vsock/vsock.ko.xz:
kernel/net/vmw_vsock/vmw_vsock_virtio_transport_common.ko.xz: kernel/net/vmw_vsock/vsock.ko.xz
kernel/net/vmw_vsock/vmw_vsock_virtio_transport.ko.xz: kernel/net/vmw_vsock/vmw_vsock_virtio_transport_common.ko.xz kernel/net/vmw_vsock/vsock.ko.xz
";

    fn names(paths: &[String]) -> Vec<String> {
        paths.iter().map(|path| module_name(path)).collect()
    }

    #[test]
    fn dependencies_load_before_what_needs_them() {
        let plan = plan_modules(DEP, "kernel/drivers/virtio/virtio_mmio.ko\n").unwrap();
        assert_eq!(names(&plan.first), ["virtio_blk", "failover", "net_failover", "virtio_net"]);
        assert_eq!(
            names(&plan.firecracker),
            ["vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"]
        );
    }

    #[test]
    fn a_kernel_with_modular_virtio_loads_the_bus_before_the_devices() {
        let dep = "v/virtio.ko:\nv/virtio_ring.ko: v/virtio.ko\nv/virtio_pci.ko: v/virtio_ring.ko v/virtio.ko\n\
            b/virtio_blk.ko: v/virtio_ring.ko v/virtio.ko\nn/virtio_net.ko:\nc/virtio_console.ko: v/virtio.ko\n";
        let plan = plan_modules(dep, "").unwrap();
        assert_eq!(
            names(&plan.first),
            ["virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_net", "virtio_console"]
        );
    }

    #[test]
    fn built_in_modules_are_left_out_and_absent_ones_are_an_error() {
        let plan = plan_modules("", "kernel/virtio-blk.ko\nkernel/virtio_net.ko\n").unwrap();
        assert_eq!(plan, ModulePlan::default());
        assert_eq!(plan_modules("", "kernel/virtio_net.ko\n"), Err(ModulesError::Missing { name: "virtio_blk" }));
    }

    #[test]
    fn a_dependency_cycle_is_an_error_not_a_hang() {
        let dep = "k/virtio_blk.ko: k/a.ko\nk/a.ko: k/virtio_blk.ko\nk/virtio_net.ko:\n";
        assert!(matches!(plan_modules(dep, ""), Err(ModulesError::Cycle { .. })));
    }
}
