#!/usr/bin/env bash
# claim: every kernel object banger needs can be made and removed: snapshot over loop, bridge and tap, nft table, resolver
# as: root
# stage: host
# limit: 120
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/leaks.sh"

leaks_remember inner

say "a device-mapper snapshot over two loop devices takes writes and leaves its origin alone"
truncate -s 16M "$scratch/origin" "$scratch/cow"
printf 'origin\n' | dd of="$scratch/origin" conv=notrunc status=none
origin=$(losetup --find --show --read-only "$scratch/origin")
at_end losetup --detach "$origin"
cow=$(losetup --find --show "$scratch/cow")
at_end losetup --detach "$cow"
dmsetup create smoke-snapshot --table "0 $(blockdev --getsz "$origin") snapshot $origin $cow P 8"
at_end dmsetup remove --retry smoke-snapshot
printf 'changed\n' | dd of=/dev/mapper/smoke-snapshot conv=notrunc,fsync status=none
expect_equal "snapshot" "$(head -n 1 /dev/mapper/smoke-snapshot)" changed
expect_equal "origin" "$(head -n 1 "$scratch/origin")" origin
dmsetup status smoke-snapshot | grep -E '^0 32768 snapshot [0-9]+/32768 [0-9]+$' || fail "no fill level"

say "a bridge with an isolated tap that belongs to $SMOKE_OWNER"
ip link add smoke-br type bridge
at_end ip link delete smoke-br
ip addr add 172.31.255.1/24 dev smoke-br
ip link set smoke-br up
ip tuntap add dev smoke-tap mode tap user "$SMOKE_OWNER"
at_end ip link delete smoke-tap
ip link set smoke-tap master smoke-br up
ip link set smoke-tap type bridge_slave isolated on
bridge -d link show dev smoke-tap | grep -q 'isolated on' || fail "the port is not isolated"

say "an nftables table with filters on the bridge and masquerading, in one batch"
nft -f - <<'RULES'
table inet smoke {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "smoke-br" oifname != "smoke-br" ct state new counter drop
  }
  chain nat {
    type nat hook postrouting priority srcnat;
    ip saddr 172.31.255.0/24 oifname != "smoke-br" masquerade
  }
}
table bridge smoke {
  chain spoof {
    type filter hook prerouting priority filter;
    iifname "smoke-tap" ether saddr != 02:00:00:00:00:02 drop
    iifname "smoke-tap" ether type ip ip saddr != 172.31.255.2 drop
  }
}
RULES
at_end nft delete table bridge smoke
at_end nft delete table inet smoke
expect_equal "tables" "$(nft list tables | grep -c ' smoke$')" 2

say "systemd-resolved answers, and takes a domain for the bridge"
systemctl is-active --quiet systemd-resolved || fail "systemd-resolved does not run"
getent ahostsv4 banger-smoke-is-not-there.invalid >/dev/null && fail "a name that cannot exist has an address"
grep -q '^hosts:.*resolve' /etc/nsswitch.conf || fail "NSS does not ask systemd-resolved"
resolvectl domain smoke-br '~smoke'
at_end resolvectl revert smoke-br
resolvectl domain smoke-br | grep -q '~smoke' || fail "the domain is not routed to the bridge"

say "a cgroup of its own with limits, and a process in it"
systemd-run --quiet --scope --unit smoke-limits -p MemoryMax=64M -p TasksMax=16 -p CPUQuota=50% \
  bash -c 'cat "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max"' | grep -qx 67108864 || fail "no memory limit"

say "the leak check sees what is there now"
LEAKS_PATIENCE=0 leaks_compare inner 2>"$scratch/leaks" && fail "it saw nothing"
for kind in links dm loops rules addresses resolver; do
  grep -qx "$kind:" "$scratch/leaks" || { cat "$scratch/leaks"; fail "it did not see the $kind"; }
done
