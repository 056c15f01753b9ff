//! What systemd is told in /run: a unit of ours, and which of its own to leave out.
//!
//! Nothing of this is in the image; it is gone at the next boot. A link to /dev/null in /run masks
//! a unit of /usr and yields to what the user puts into /etc.

use std::io;

use crate::machine::Machine;
use crate::tree::Tree;

const UNITS: &str = "run/systemd/system";

/// Runs when everything the default target wants has been started, and ends first when the system does.
const BOOTED_UNIT: &str = "[Unit]
Description=Tell the host that the system is booted, and when it ends
DefaultDependencies=no
After=multi-user.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/run/banger/banger-guest booted
ExecStop=/run/banger/banger-guest ending
";

/// Commands run before systemd gets this far: `d` keeps what they put there, the usual `D` empties it.
const TEMPORARY_FILES: &str = "d /tmp 1777 root root -\nd /var/tmp 1777 root root -\n";

/// Where the machine knows no power-off, a guest whose user asks for one would halt and keep its VMM for ever.
const END_BY_RESET: &str = "[Unit]\nSuccessAction=reboot-force\n";
const ENDS: [&str; 2] = ["systemd-poweroff.service", "systemd-halt.service"];

/// Units left out, each with the reason. Measured on a CPU emulated in software, where starting any
/// process costs tens of milliseconds.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("apt-daily.timer", "a disposable machine downloads package lists when asked"),
    ("apt-daily-upgrade.timer", "a disposable machine is replaced, not upgraded"),
    ("console-getty.service", "nobody sits at the console"),
    ("console-setup.service", "there is no font to set"),
    ("dev-hugepages.mount", "no huge pages are reserved"),
    ("dpkg-db-backup.timer", "the base image is the backup"),
    ("e2scrub_all.timer", "there is no LVM to snapshot"),
    ("e2scrub_reap.service", "there is no LVM to snapshot"),
    ("fstrim.timer", "the host reclaims disks as a whole"),
    ("getty-static.service", "nobody sits at the console"),
    ("getty.target", "nobody sits at the console"),
    ("getty@tty1.service", "nobody sits at the console"),
    ("proc-sys-fs-binfmt_misc.automount", "foreign binaries are not run, and it loads autofs"),
    ("serial-getty@ttyS0.service", "nobody sits at the console, and it would wait for udev to find it"),
    ("keyboard-setup.service", "there is no keyboard"),
    ("ldconfig.service", "the image's linker cache is complete"),
    ("logrotate.timer", "logs do not live long enough"),
    ("man-db.timer", "manual pages do not change"),
    ("modprobe@configfs.service", "starts a process to load what nobody uses"),
    ("modprobe@dm_mod.service", "loaded on demand"),
    ("modprobe@drm.service", "there is no display"),
    ("modprobe@efi_pstore.service", "there is no EFI"),
    ("modprobe@fuse.service", "loaded when /dev/fuse is opened"),
    ("modprobe@loop.service", "loaded when /dev/loop-control is opened"),
    ("networking.service", "the link is configured before systemd starts"),
    ("NetworkManager-wait-online.service", "the link is configured before systemd starts"),
    ("systemd-networkd-wait-online.service", "the link is configured before systemd starts"),
    ("sys-fs-fuse-connections.mount", "needed only to abort hanging FUSE servers"),
    ("sys-kernel-config.mount", "nobody configures kernel objects"),
    ("sys-kernel-debug.mount", "mounted by who debugs the kernel"),
    ("sys-kernel-tracing.mount", "mounted by who traces the kernel"),
    ("systemd-ask-password-console.path", "there is no password to ask for"),
    ("systemd-ask-password-wall.path", "there is no password to ask for"),
    ("systemd-firstboot.service", "the seed has said everything"),
    ("systemd-fsck-root.service", "root is mounted already, and the host owns its health"),
    ("systemd-hwdb-update.service", "the hardware is virtual"),
    ("systemd-initctl.socket", "nobody speaks sysvinit's protocol"),
    ("systemd-journal-catalog-update.service", "the catalog came with the image"),
    ("systemd-pstore.service", "a crash of the guest is the host's to record"),
    ("systemd-random-seed.service", "a seed file copied with an image is no entropy"),
    ("systemd-rfkill.socket", "there is no radio"),
    ("systemd-timesyncd.service", "the host sets the clock"),
    ("systemd-udev-settle.service", "nothing waits for all devices"),
    ("systemd-update-utmp.service", "nobody counts reboots"),
    ("systemd-update-utmp-runlevel.service", "nobody counts runlevels"),
    ("systemd-vconsole-setup.service", "there is no font to set"),
    ("tmp.mount", "it would hide what commands have put into /tmp by then"),
];

/// True if the image's init can be systemd. Otherwise its directory in /run must not exist: that is
/// how programs tell whether systemd is running.
pub fn image_has_systemd(image: &Tree) -> bool {
    image.exists("usr/lib/systemd/systemd") || image.exists("lib/systemd/systemd")
}

/// Writes all of it.
///
/// # Errors
/// What the filesystem says.
pub fn write(image: &Tree) -> io::Result<()> {
    image.write(format!("{UNITS}/banger-booted.service"), 0o644, BOOTED_UNIT.as_bytes())?;
    image.link(&format!("{UNITS}/multi-user.target.wants/banger-booted.service"), "../banger-booted.service")?;
    image.write("run/tmpfiles.d/tmp.conf", 0o644, TEMPORARY_FILES.as_bytes())?;
    if Machine::observe() == Machine::Firecracker {
        for unit in ENDS {
            image.write(format!("{UNITS}/{unit}.d/banger.conf"), 0o644, END_BY_RESET.as_bytes())?;
        }
    }
    for (unit, _) in LEFT_OUT {
        image.link(&format!("{UNITS}/{unit}"), "/dev/null")?;
    }
    Ok(())
}
