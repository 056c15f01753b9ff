#!/usr/bin/env bash
# claim: a guest reaches its gateway and names, no other guest, no service of the host, and the outside only with nat
# as: root
# stage: host
# needs: kernel programs
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/apart.sh"
. "$SMOKE/scenarios/lib/firecracker.sh"
. "$SMOKE/scenarios/lib/helper.sh"
helper_install
helper_start

say "an outside that knows no way back to the guests"
apart_up
ip link add smoke-out type veth peer name inside netns "$apart_pid"
ip addr add 203.0.113.2/24 dev smoke-out
ip link set smoke-out up
apart ip addr add 203.0.113.1/24 dev inside
apart ip link set inside up

# A guest that tries everything once and then says every second what of the outside it sees.
guest_init() { # FILE ADDRESS OTHER
  cat >"$1" <<INIT
#!/bin/busybox sh
b=/bin/busybox
\$b mount -t devtmpfs dev /dev
\$b mount -t proc proc /proc
\$b cat /modules/order.firecracker /modules/order | while read -r module; do \$b insmod /modules/\$module; done
\$b ip addr add $2/24 dev eth0
\$b ip link set eth0 up
\$b ip route add default via 172.16.0.1
can() { what=\$1; shift; if "\$@" >/dev/null 2>&1; then \$b echo "can \$what: yes"; else \$b echo "can \$what: no"; fi; }
opens() { \$b sh -c "\$b echo | \$b timeout 3 \$b nc -w 2 \$1 \$2"; }
says() { [ "\$(\$b echo | \$b timeout 5 \$b nc -w 4 \$1 \$2)" = "\$3" ]; }
can reach-gateway \$b ping -c 1 -W 3 172.16.0.1
can reach-neighbour \$b ping -c 1 -W 3 $3
can reach-sshd opens 172.16.0.1 22
can reach-sshd-elsewhere opens 203.0.113.2 22
can ask-for-names says 172.16.0.1 53 names
\$b ip addr add 172.16.0.77/24 dev eth0
can spoof-address \$b ping -c 1 -W 3 -I 172.16.0.77 172.16.0.1
\$b ip addr del 172.16.0.77/24 dev eth0
\$b ip link set eth0 down
\$b cat /sys/class/net/eth0/address >/mac 2>/dev/null || { \$b mount -t sysfs sys /sys 2>/dev/null || { \$b mkdir /sys; \$b mount -t sysfs sys /sys; }; \$b cat /sys/class/net/eth0/address >/mac; }
\$b ip link set eth0 address 02:fc:ac:10:00:4d
\$b ip link set eth0 up
\$b ip route add default via 172.16.0.1
can spoof-mac \$b ping -c 1 -W 3 172.16.0.1
\$b ip link set eth0 down
\$b ip link set eth0 address \$(\$b cat /mac)
\$b ip link set eth0 up
\$b ip route add default via 172.16.0.1
can reach-gateway-again \$b ping -c 1 -W 3 172.16.0.1
\$b echo tried everything
while :; do
  if \$b ping -c 1 -W 2 203.0.113.1 >/dev/null 2>&1; then \$b echo outside yes; else \$b echo outside no; fi
  \$b sleep 1
done
INIT
}

say "two guests, and a server of names"
a=172.16.0.2 b=172.16.0.3
for guest in "$helper_vm_a $a $b" "$helper_vm_b $b $a"; do
  read -r vm address other <<<"$guest"
  helper_files "$vm"
  guest_init "$scratch/init" "$address" "$other"
  raw_initrd "$scratch/initrd" "$scratch/init"
  cat "$scratch/initrd" >"/var/lib/banger/vms/$vm/initrd.cpio"
  helper_launch "$vm" "$address" >/dev/null
done
setsid bash -c 'while :; do echo names | nc -l -N 172.16.0.1 5354 || sleep 0.2; done' >/dev/null 2>&1 &
at_end kill -- "-$!"
helper_boot "$helper_vm_a" "$a"
helper_boot "$helper_vm_b" "$b"
tried() { grep -q 'tried everything' "/var/lib/banger/vms/$1/console.log"; }
eventually 150 "the first guest has tried everything" tried "$helper_vm_a"
eventually 60 "the second guest has tried everything" tried "$helper_vm_b"
for vm in "$helper_vm_a" "$helper_vm_b"; do
  helper_console "$vm" | tr -d '\r' | grep '^can '
  for expected in "reach-gateway: yes" "reach-neighbour: no" "reach-sshd: no" "reach-sshd-elsewhere: no" \
    "ask-for-names: yes" "spoof-address: no" "spoof-mac: no" "reach-gateway-again: yes"; do
    helper_console "$vm" | tr -d '\r' | grep -qx "can $expected" || fail "expected: $expected"
  done
done

say "the host reaches both"
ping -c 1 -W 5 "$a" >/dev/null || fail "no way to $a"
ping -c 1 -W 5 "$b" >/dev/null || fail "no way to $b"

say "the outside opens and closes with nat, for that guest only"
last() { helper_console "$1" | tr -d '\r' | grep '^outside' | tail -n 1; }
sees() { [ "$(last "$1")" = "outside $2" ]; }
eventually 20 "no outside for the first guest" sees "$helper_vm_a" no
expect_equal forwarding "$(sysctl -n net.ipv4.ip_forward)" 0
helper set-nat "$helper_vm_a" on >/dev/null
eventually 30 "the outside for the first guest" sees "$helper_vm_a" yes
sees "$helper_vm_b" no || fail "the second guest sees the outside too"
helper set-nat "$helper_vm_a" off >/dev/null
eventually 30 "no outside any more" sees "$helper_vm_a" no
expect_equal forwarding "$(sysctl -n net.ipv4.ip_forward)" 0

say "what others remove is noticed and put back"
ready() { [ "$(helper inventory | jq .network_ready)" = true ]; }
ready || fail "the network is not ready to begin with"
nft flush ruleset
if ready; then fail "a flush was not noticed"; fi
helper ensure-network >/dev/null
ready || fail "the rules are not back"
ip link set "$(tap_of "$a")" nomaster
if ready; then fail "a tap without a bridge was not noticed"; fi
helper ensure-network >/dev/null
ready || fail "the tap is not back"
ping -c 1 -W 5 "$a" >/dev/null || fail "no way to $a"

say "names of VMs are routed to the bridge, and again after others have meddled"
helper set-resolver on >/dev/null
resolver_ready() { [ "$(helper inventory | jq .resolver_ready)" = true ]; }
resolver_ready || fail "the resolver does not know"
resolvectl domain br-fc | grep -q '~vm' || fail "no domain"
resolvectl revert br-fc
if resolver_ready; then fail "it was not noticed"; fi
helper set-resolver on >/dev/null
resolver_ready || fail "the resolver does not know"
systemctl restart systemd-resolved
resolver_ready || helper set-resolver on >/dev/null
resolver_ready || fail "the resolver does not know after its restart"
