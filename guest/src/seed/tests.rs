#![allow(clippy::unwrap_used)]

use super::*;
use banger_proto::guest::v1::{Network, SeedFile};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn image() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for directory in ["etc/skel", "etc/ssh/sshd_config.d", "usr/lib/systemd", "root", "run"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("etc/hosts"), "127.0.0.1\tlocalhost\n").unwrap();
    fs::write(root.path().join("etc/skel/.bashrc"), "skel").unwrap();
    fs::write(root.path().join("usr/lib/systemd/systemd"), "").unwrap();
    symlink("../run/systemd/resolve/stub-resolv.conf", root.path().join("etc/resolv.conf")).unwrap();
    root
}

fn seed() -> Seed {
    let mut random = rand::rng();
    let bytes: [u8; 32] = rand::Rng::random(&mut random);
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&bytes);
    let key = russh::keys::PrivateKey::from(pair);
    Seed {
        version: 1,
        hostname: "box".into(),
        network: Some(Network { nameservers: vec!["10.0.2.3".into()], ..Network::default() }),
        authorized_keys: vec!["ssh-ed25519 AAAA me".into()],
        ssh_host_key: key.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap().to_string(),
        git_name: "Ann".into(),
        git_email: "ann@example.org".into(),
        files: vec![SeedFile { path: b".config/tool/x".to_vec(), mode: 0o600, content: b"y".to_vec() }],
        image_has_sshd: true,
        ..Seed::default()
    }
}

fn apply_to(root: &Path, seed: &Seed) -> Applied {
    let image = Tree::open(root, Links::InRoot).unwrap();
    apply(root, seed, &home::read_skeleton(&image))
}

#[test]
fn a_fresh_image_gets_everything_and_a_second_boot_changes_nothing() {
    let root = image();
    let seed = seed();
    assert_eq!(apply_to(root.path(), &seed), Applied::default());
    let text = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(text("etc/hostname"), "box\n");
    assert!(text("etc/hosts").ends_with("127.0.1.1\tbox\n"));
    assert!(text("etc/resolv.conf").contains("nameserver 10.0.2.3\n"));
    assert_eq!(text("root/.ssh/authorized_keys"), "ssh-ed25519 AAAA me\n");
    assert_eq!(text("root/.bashrc"), "skel");
    assert_eq!(text("root/.config/tool/x"), "y");
    assert!(text("root/.gitconfig").contains("name = \"Ann\""));
    assert!(text("etc/ssh/ssh_host_ed25519_key.pub").starts_with("ssh-ed25519 "));
    let modes = [("root", 0o700), ("root/.ssh", 0o700), ("root/.ssh/authorized_keys", 0o600)];
    for (path, expected) in modes.into_iter().chain([("etc/ssh/ssh_host_ed25519_key", 0o600)]) {
        assert_eq!(mode(path), expected, "{path}");
    }
    let wanted = root.path().join("run/systemd/system/multi-user.target.wants/banger-booted.service");
    assert!(fs::read_to_string(wanted).unwrap().contains("banger-guest booted"));
    assert_eq!(text("etc/resolv.conf").lines().count(), 2, "an image's own nameserver does not survive its first boot");
    let before = fs::metadata(root.path().join("etc/hosts")).unwrap().modified().unwrap();
    assert_eq!(apply_to(root.path(), &seed), Applied::default());
    assert_eq!(fs::metadata(root.path().join("etc/hosts")).unwrap().modified().unwrap(), before);
}

#[test]
fn what_the_user_made_in_the_guest_is_kept() {
    let root = image();
    fs::write(root.path().join("root/.gitconfig"), "[user]\n\tname = own\n").unwrap();
    fs::remove_file(root.path().join("etc/resolv.conf")).unwrap();
    fs::write(root.path().join("etc/resolv.conf"), "nameserver 9.9.9.9\n").unwrap();
    assert_eq!(apply_to(root.path(), &seed()), Applied::default());
    assert!(fs::read_to_string(root.path().join("root/.gitconfig")).unwrap().contains("own"));
    assert_eq!(fs::read_to_string(root.path().join("etc/resolv.conf")).unwrap(), "nameserver 9.9.9.9\n");
    assert!(!root.path().join("root/.bashrc").exists(), "a home that is in use gets no skeleton");
}

#[test]
fn files_of_the_seed_never_leave_the_home() {
    let root = image();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), root.path().join("root/out")).unwrap();
    let mut seed = seed();
    for path in ["out/x", "../x", "/etc/x", ""] {
        seed.files = vec![SeedFile { path: path.into(), mode: 0o644, content: b"x".to_vec() }];
        let applied = apply_to(root.path(), &seed);
        assert!(applied.failure.is_some(), "{path:?} is refused");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!root.path().join("etc/x").exists());
}

#[test]
fn one_step_that_fails_does_not_keep_the_others_from_happening() {
    let root = image();
    fs::remove_file(root.path().join("etc/resolv.conf")).unwrap();
    fs::create_dir_all(root.path().join("etc/hostname/in-the-way")).unwrap();
    let applied = apply_to(root.path(), &seed());
    assert!(applied.failure.unwrap().starts_with("cannot write /etc/hostname"));
    assert!(root.path().join("root/.ssh/authorized_keys").exists());
    assert!(root.path().join("etc/resolv.conf").exists());
}

#[test]
fn bytes_that_are_no_seed_and_seeds_from_the_future_are_refused() {
    assert!(matches!(parse(&[0xff; 9]), Err(InvalidSeed::Message { .. })));
    let future = Seed { version: 2, ..Seed::default() };
    assert!(matches!(parse(&future.encode_to_vec()), Err(InvalidSeed::Version { found: 2 })));
}
