#!/usr/bin/env bash
# claim: the jailer runs Firecracker as the owner, in a root of its own and a cgroup with limits, and nothing stays
# as: root
# stage: host
# needs: kernel
# limit: 240
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/firecracker.sh"

id=smoke-jailed
uid=$(id -u "$SMOKE_OWNER")
gid=$(id -g "$SMOKE_OWNER")
# The jailer's path: BASE/NAME-OF-THE-PROGRAM/ID/root.
jail=$scratch/firecracker/$id/root
cgroup=/sys/fs/cgroup/$id/$id
mkdir -p "$jail"
at_end "rmdir $cgroup ${cgroup%/*}"

say "its root holds the kernel, the initrd and the disk, and nothing else of the host"
raw_init "$scratch/init" hello-from-the-jail 2
raw_initrd "$jail/initrd" "$scratch/init"
install -m 0444 "$SMOKE_KERNEL/vmlinux" "$jail/vmlinux"
echo hello-from-the-host >"$jail/disk"
truncate -s 1M "$jail/disk"
raw_kernel=/vmlinux raw_config "$jail/config" /initrd /disk
chmod 0444 "$jail/initrd" "$jail/config"
chown "$uid:$gid" "$jail/disk"

"$SMOKE/bin/jailer" --id "$id" --uid "$uid" --gid "$gid" --exec-file "$SMOKE/bin/firecracker" \
  --chroot-base-dir "$scratch" --cgroup-version 2 --parent-cgroup "$id" \
  --cgroup memory.max=536870912 --cgroup pids.max=64 \
  -- --no-api --config-file /config </dev/null >"$scratch/console" 2>&1 &
vmm=$!
at_end "kill -9 $vmm 2>/dev/null || true"

of_vmm() { # FIELD of its status
  sed -n "s/^$1:[[:space:]]*\([^[:space:]]*\).*/\1/p" "/proc/$vmm/status"
}
is_guest_up() { grep -q hello-from-the-jail "$scratch/console"; }
has_ended() { ! kill -0 "$vmm" 2>/dev/null; }
eventually 120 "the guest speaks" eval 'is_guest_up || has_ended'
is_guest_up || { cat "$scratch/console"; fail "no word of the guest"; }

say "it runs as $SMOKE_OWNER, sees only its root, and has no capability left"
expect_equal "user of the VMM" "$(of_vmm Uid)" "$uid"
expect_equal "group of the VMM" "$(of_vmm Gid)" "$gid"
expect_equal "capabilities of the VMM" "$(of_vmm CapEff)" 0000000000000000
[ "$(readlink "/proc/$vmm/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ] || fail "it shares the host's mounts"
expect_equal "root of the VMM" "$(find "/proc/$vmm/root/" -maxdepth 1 -type f -printf '%f\n' | sort | xargs)" \
  "config disk firecracker firecracker.pid initrd vmlinux"

say "it is in its own cgroup, with the limits it was given"
expect_equal "cgroup of the VMM" "$(cut -d: -f3 "/proc/$vmm/cgroup")" "${cgroup#/sys/fs/cgroup}"
expect_equal "memory limit" "$(cat "$cgroup/memory.max")" 536870912
expect_equal "process limit" "$(cat "$cgroup/pids.max")" 64

say "the guest reads its disk and ends"
wait "$vmm" || { cat "$scratch/console"; fail "Firecracker ended with an error"; }
grep -q '^hello-from-the-jail disk=hello-from-the-host' "$scratch/console" || fail "the guest cannot read its disk"
