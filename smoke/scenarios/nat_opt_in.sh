#!/usr/bin/env bash
# claim: a guest reaches the internet only with --nat, which works live in both directions, and IPv4 forwarding is on only meanwhile
# as: root
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"
. "$SMOKE/scenarios/lib/internet.sh"

forwarding() { cat /proc/sys/net/ipv4/ip_forward; }
reaches() { guest_reaches natted "$internet_server" "$internet_port"; }
internet_up
before=$(forwarding)
vm_up natted

say "without --nat"
! reaches || fail "it reaches the internet without being allowed to"
expect_equal "forwarding" "$(forwarding)" "$before"

say "switched on in the running VM"
banger vm set natted --nat
expect_equal nat "$(vm_field natted .nat)" true
reaches || { nft list ruleset; fail "it does not reach the internet"; }
expect_equal "forwarding" "$(forwarding)" 1
say "and only outwards: nobody out there reaches the guest"
ip -n internet route add "$(vm_field natted .address)" via 203.0.113.1
! ip netns exec internet nc -z -w 3 "$(vm_field natted .address)" 22 || fail "the internet reaches the guest"

say "switched off again"
banger vm set natted --no-nat
! reaches || fail "it still reaches the internet"
expect_equal "forwarding" "$(forwarding)" "$before"

say "it survives restarts of both services, as does the VM"
banger vm set natted --nat
systemctl restart bangerd-root.service bangerd.service
eventually 30 "the daemon answers" daemon_answers
reaches || fail "it lost the internet with the restart"
banger vm delete natted
expect_equal "forwarding when nobody needs it" "$(forwarding)" "$before"
