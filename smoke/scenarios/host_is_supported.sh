#!/usr/bin/env bash
# claim: systemd runs the host, and a raw Firecracker microVM boots in it, prints, and reads and writes its disk
# as: root
# stage: host
# needs: kernel
# limit: 240
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/firecracker.sh"

say "systemd is up with nothing failed, cgroups are v2, the clock source is not a fallback"
expect_equal "failed units" "$(systemctl list-units --failed --no-legend --plain)" ""
expect_equal "state of the system" "$(systemctl is-system-running)" running
expect_equal "type of /sys/fs/cgroup" "$(findmnt -n -o FSTYPE /sys/fs/cgroup)" cgroup2
for controller in cpu memory pids; do
  grep -qw "$controller" /sys/fs/cgroup/cgroup.controllers || fail "no cgroup controller $controller"
done

say "$SMOKE_OWNER is an ordinary user with no way to root"
id "$SMOKE_OWNER" >/dev/null
! id -nG "$SMOKE_OWNER" | grep -qwE 'root|sudo|wheel|kvm|disk' || fail "groups of $SMOKE_OWNER: $(id -nG "$SMOKE_OWNER")"
if command -v sudo >/dev/null && runuser -u "$SMOKE_OWNER" -- sudo -n true 2>/dev/null; then
  fail "$SMOKE_OWNER may use sudo"
fi

say "Firecracker is the version that banger is tested with"
"$SMOKE/bin/firecracker" --version | grep -F 'Firecracker v1.12.1' || fail "another version"

say "a microVM boots"
[ -c /dev/kvm ] || fail "no /dev/kvm"
raw_init "$scratch/init" hello-from-the-guest
raw_initrd "$scratch/initrd" "$scratch/init"
echo hello-from-the-host >"$scratch/disk"
truncate -s 1M "$scratch/disk"
raw_config "$scratch/config" "$scratch/initrd" "$scratch/disk"
started=$(now)
timeout 120 "$SMOKE/bin/firecracker" --no-api --id raw --config-file "$scratch/config" \
  </dev/null >"$scratch/console" 2>"$scratch/log" || {
  tail -n 20 "$scratch/console" "$scratch/log"
  fail "Firecracker ended with an error"
}
measure raw_firecracker_seconds "$(since "$started")"
grep hello-from-the-guest "$scratch/console" || { cat "$scratch/console" "$scratch/log"; fail "no word of the guest"; }
grep -q '^hello-from-the-guest disk=hello-from-the-host' "$scratch/console" || fail "the guest cannot read its disk"
measure raw_guest_uptime_seconds "$(sed -n 's/^hello-from-the-guest up=//p' "$scratch/console" | tr -d '\r')"
expect_equal "second sector of the disk" "$(dd if="$scratch/disk" bs=512 skip=1 count=1 status=none | head -n 1)" \
  "written by the guest"
