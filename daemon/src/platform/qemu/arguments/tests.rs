#![allow(clippy::unwrap_used)]

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn plan() -> VmPlan {
    VmPlan {
        id: ID.parse().unwrap(),
        name: "box".parse().unwrap(),
        vcpu_count: 2,
        memory_mib: 1024,
        work_disk_mib: 64,
        nat: false,
        address: None,
        published_ports: Vec::new(),
        rootfs: "/s/images/i/rootfs.ext4".into(),
        image_has_sshd: false,
        vmlinux: "/s/kernels/k/vmlinux".into(),
        modules_cpio: "/s/kernels/k/initrd.cpio".into(),
        modules_ext4: "/s/kernels/k/modules.ext4".into(),
        kernel_arguments: vec!["audit=0".into()],
        directory: format!("/s/vms/{ID}").into(),
        runtime_directory: "/r/vm/0123456789ab".into(),
    }
}

fn values(arguments: &[String], option: &str) -> Vec<String> {
    arguments.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
}

fn render_tcg(plan: &VmPlan) -> Vec<String> {
    render(plan, Accel::Tcg, Sandbox::Available).unwrap()
}

#[test]
fn the_guest_reaches_its_disks_its_network_its_channel_and_nothing_else() {
    let arguments = render_tcg(&plan());
    assert_eq!(
        values(&arguments, "-device"),
        [
            "virtio-serial-pci,max_ports=2",
            "virtserialport,nr=1,chardev=control,name=banger.control",
            "virtio-rng-pci",
            "virtio-blk-pci,drive=root,serial=root",
            "virtio-blk-pci,drive=work,serial=work",
            "virtio-blk-pci,drive=modules,serial=modules",
            "virtio-net-pci,netdev=net,mac=52:54:00:01:23:45,romfile=",
        ]
    );
    assert_eq!(
        values(&arguments, "-chardev"),
        [
            "socket,id=monitor,path=/r/vm/0123456789ab/qmp.sock,server=on,wait=off",
            "file,id=console,path=/s/vms/0123456789abcdef0123456789abcdef/console.log,append=off",
            "socket,id=control,path=/r/vm/0123456789ab/control.sock,server=on,wait=off",
        ]
    );
    for flag in ["-nodefaults", "-no-user-config"] {
        assert!(arguments.contains(&flag.to_owned()), "{flag}");
    }
    // A guest's reboot restarts it in place, its power-off ends the process.
    for flag in ["-no-reboot", "-no-shutdown", "-daemonize"] {
        assert!(!arguments.contains(&flag.to_owned()), "{flag}");
    }
}

#[test]
fn the_network_is_closed_unless_nat_and_forwards_are_on_loopback() {
    let none: &[(u16, u16)] = &[];
    let table = [
        (false, false, none, "user,id=net,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:0-:4022"),
        (true, false, none, "user,id=net,ipv6=off,restrict=off,hostfwd=tcp:127.0.0.1:0-:4022"),
        (
            false,
            true,
            none,
            "user,id=net,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:0-:4022,hostfwd=tcp:127.0.0.1:0-:22",
        ),
        (
            true,
            false,
            &[(8080, 80), (9000, 9000)][..],
            "user,id=net,ipv6=off,restrict=off,hostfwd=tcp:127.0.0.1:0-:4022,\
             hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:9000-:9000",
        ),
    ];
    for (nat, image_has_sshd, published, expected) in table {
        let plan = VmPlan { nat, image_has_sshd, published_ports: published.to_vec(), ..plan() };
        assert_eq!(values(&render_tcg(&plan), "-netdev"), [expected]);
    }
}

#[test]
fn the_accelerator_and_the_sandbox_follow_the_host() {
    let table = [
        (Accel::Kvm, Sandbox::Available, "kvm", "host", vec![SANDBOX.to_owned()]),
        (Accel::Tcg, Sandbox::Unavailable, "tcg,thread=multi", "max", vec![]),
    ];
    for (accel, sandbox, accelerator, cpu, expected_sandbox) in table {
        let arguments = render(&plan(), accel, sandbox).unwrap();
        assert_eq!(values(&arguments, "-accel"), [accelerator]);
        assert_eq!(values(&arguments, "-cpu"), [cpu]);
        assert_eq!(values(&arguments, "-sandbox"), expected_sandbox);
    }
}

#[test]
fn shared_files_are_opened_read_only() {
    let arguments = render_tcg(&plan());
    let nodes: Vec<serde_json::Value> =
        values(&arguments, "-blockdev").iter().map(|node| serde_json::from_str(node).unwrap()).collect();
    let [root, work, modules] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!(root["driver"], "qcow2");
    assert_eq!(root["backing"]["file"]["filename"], "/s/images/i/rootfs.ext4");
    for shared in [&root["backing"], modules] {
        assert_eq!((&shared["read-only"], &shared["file"]["read-only"]), (&json!(true), &json!(true)));
    }
    assert_eq!(work["read-only"], json!(false));
    assert!(nodes.iter().all(|node| node.get("cache").is_none()), "flushes must reach the host's disk");
}

#[test]
fn a_path_cannot_add_options() {
    let plan = VmPlan { directory: "/s,x=y/vms/a b".into(), rootfs: "/i\",\"a".into(), ..plan() };
    let arguments = render_tcg(&plan);
    assert!(arguments.contains(&"file,id=console,path=/s,,x=y/vms/a b/console.log,append=off".to_owned()));
    let root: serde_json::Value = serde_json::from_str(&values(&arguments, "-blockdev")[0]).unwrap();
    assert_eq!(root["backing"]["file"]["filename"], "/i\",\"a");
}

#[test]
fn a_socket_path_that_cannot_be_bound_is_refused_with_its_length() {
    let fits = "/".to_owned() + &"r".repeat(SOCKET_PATH_LIMIT - "//control.sock".len());
    assert!(
        render(&VmPlan { runtime_directory: fits.clone().into(), ..plan() }, Accel::Tcg, Sandbox::Available).is_ok()
    );
    let long = VmPlan { runtime_directory: (fits + "r").into(), ..plan() };
    let error = render(&long, Accel::Tcg, Sandbox::Available).unwrap_err();
    assert!(error.to_string().contains("has 108 bytes, the limit is 107"), "{error}");
    assert!(error.hints()[0].contains("`export XDG_RUNTIME_DIR"));
}

#[test]
fn a_vmm_is_recognised_by_all_its_marks_only() {
    let plan = plan();
    let arguments = render_tcg(&plan);
    let of = |id: &VmId, runtime: &str| marks(id, Path::new(runtime)).unwrap();
    assert_eq!(id_in(&arguments), Some(plan.id.clone()));
    assert!(carry(&arguments, &of(&plan.id, "/r/vm/0123456789ab")));
    // The same id under another daemon's runtime root.
    assert!(!carry(&arguments, &of(&plan.id, "/other/vm/0123456789ab")));
    let other: VmId = ID.replace("01", "ff").parse().unwrap();
    assert!(!carry(&arguments, &of(&other, "/r/vm/0123456789ab")));
    for foreign in [&["qemu"][..], &["qemu", "-uuid"], &["qemu", "-uuid", ID], &["qemu", "-uuid", "x"]] {
        let foreign: Vec<String> = foreign.iter().map(|&argument| argument.to_owned()).collect();
        assert_eq!(id_in(&foreign), None, "{foreign:?}");
    }
}
