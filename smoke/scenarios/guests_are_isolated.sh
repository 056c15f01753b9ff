#!/usr/bin/env bash
# claim: a guest reaches neither another guest nor a service of the host but DNS, cannot use an address that is not its own, and its disks name nothing on the host
# as: root
# needs: programs kernel image
# limit: 480
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"
. "$SMOKE/scenarios/lib/internet.sh"

vm_up alone-a
vm_up alone-b --nat
a=$(vm_field alone-a .address) b=$(vm_field alone-b .address)
gateway=$(banger system status --json | jq -r .installation.network.gateway)
port=$(vm_field alone-b .connection.agent_port)

say "the host reaches both; what follows is not a dead network"
nc -z -w 5 "$b" "$port"
nc -z -w 5 "$a" "$port"

say "the disks of a guest are not looked at: no label or UUID in them becomes a name here, no unit waits for them"
udevadm settle
disk=fc-rootfs-$(vm_field alone-a .id)
for device in $(dmsetup info --columns --noheadings -o blkdevname "$disk") \
  $(dmsetup deps -o devname "$disk" | grep -o '([^)]*)' | tr -d '()'); do
  expect_equal "names of $device" "$(find /dev/disk -lname "*/$device" ! -path '*/by-diskseq/*')" ""
  expect_equal "what udev read from $device" "$(udevadm info --query=property "/sys/class/block/$device" | grep '^ID_FS' || true)" ""
done
expect_equal "units for links" "$(systemctl list-units --all --no-legend --plain -t device | grep 'fc.x2d[0-9a-f]\{8\}\.' || true)" ""

say "neither reaches the other, whatever B is allowed, nor a service of the host but DNS"
nc -lk 9999 >/dev/null &
service=$!
at_end "kill $service; wait $service 2>/dev/null || true"
eventually 10 "the service listens" nc -z -w 1 "$gateway" 9999
of_the_host=("$gateway:9999" "$gateway:22" 10.0.2.15:9999 10.0.2.15:22 "$gateway:53")
expect_equal "what A reaches" "$(reached_by alone-a "$b:$port" "${of_the_host[@]}")" "$gateway:53"
expect_equal "what B reaches" "$(reached_by alone-b "$a:$port" "${of_the_host[@]}")" "$gateway:53"

say "an address or a card that is not A's is not heard"
spoofed=${b%.*}.200
in_guest alone-a sh -ec "
  dev=\$(ip -o route get $gateway | sed 's/.* dev \([^ ]*\).*/\1/')
  ip addr add $spoofed/32 dev \$dev
  ip route add $gateway/32 dev \$dev src $spoofed"
! guest_reaches alone-a "$gateway" 53 || fail "A is heard as $spoofed"
in_guest alone-a sh -ec "
  dev=\$(ip -o route get $gateway | sed 's/.* dev \([^ ]*\).*/\1/')
  ip route del $gateway/32
  ip addr del $spoofed/32 dev \$dev"
guest_reaches alone-a "$gateway" 53 || fail "A is not heard as itself any more"
# With another card's address A cuts itself off: the command runs on, and puts its own back after a while.
IFS=. read -r -a octets <<<"$b"
mac=$(printf '02:fc:%02x:%02x:%02x:%02x' "${octets[@]}")
in_guest alone-a sh -c "
  dev=\$(ip -o route get $gateway | sed 's/.* dev \([^ ]*\).*/\1/')
  own=\$(cat /sys/class/net/\$dev/address)
  setsid sh -c \"
    sleep 1
    ip link set \$dev address $mac
    timeout 5 bash -c 'exec 3<>/dev/tcp/$gateway/53' && echo heard >/root/spoofed || echo unheard >/root/spoofed
    ip link set \$dev address \$own
  \" >/dev/null 2>&1 </dev/null &"
eventually 60 "A has its own card again" sh -c "nc -z -w 2 $a $port"
told() { [ -n "$(in_guest alone-a cat /root/spoofed)" ]; }
eventually 60 "A has tried" told
expect_equal "with B's card A is" "$(in_guest alone-a cat /root/spoofed)" unheard

say "B was not disturbed"
guest_reaches alone-b "$gateway" 53 || fail "B does not reach the DNS server any more"
