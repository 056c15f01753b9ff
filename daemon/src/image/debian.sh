# Last touch to a bootstrapped root ($1) before it becomes an image: nothing in it identifies the host or the
# build, and nothing runs on a schedule in a disposable VM. Runs as (the namespace's) root, outside the root.
set -eu
root=$1
# Empty: systemd makes one per boot and does not take it for a first boot (machine-id(5)).
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
rm -f "$root"/etc/ssh/ssh_host_*
# mmdebstrap copies these two from the host.
echo localhost >"$root/etc/hostname"
: >"$root/etc/resolv.conf"
: >"$root/etc/fstab"
sed -i 's/^root:[^:]*:/root:*:/' "$root/etc/shadow"
rm -f "$root"/etc/systemd/system/timers.target.wants/*.timer
rm -f "$root"/etc/systemd/system/multi-user.target.wants/e2scrub_reap.service
rm -f "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root/var/cache/ldconfig/aux-cache"
rm -rf "$root"/var/log/apt "$root"/var/log/*.log
if [ -e "$root/lib/systemd/system/multi-user.target" ]; then
	ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
fi
