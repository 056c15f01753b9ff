#!/usr/bin/env bash
# claim: the host reaches a VM by name through NSS, also after systemd-resolved was restarted and all nftables rules were flushed
# as: root
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

address_of() { getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }'; }
resolves() { resolvectl flush-caches; [ "$(address_of named.vm)" = "$address" ]; }
vm_up named
address=$(vm_field named .address)

say "by name"
eventually 30 "named.vm has the address $address" resolves
as_owner ping -c 1 -W 5 named.vm
# A name without dots is asked of links by LLMNR at most, never of the network.
! getent ahostsv4 not-there.vm || fail "a VM that is not there has an address"
expect_equal "domain of the bridge" "$(resolvectl domain br-fc | sed 's/.*: //')" "~vm"
expect_equal "other names go elsewhere" "$(resolvectl default-route br-fc | sed 's/.*: //')" no

say "after a restart of systemd-resolved, which forgets links it does not know"
systemctl restart systemd-resolved.service
eventually 60 "named.vm has its address again" resolves

say "after all rules of the host were flushed"
nft flush ruleset
eventually 60 "the tables are there again" sh -c 'nft list table inet banger && nft list table bridge banger'
eventually 60 "named.vm has its address again" resolves
as_owner ping -c 1 -W 5 named.vm
expect_equal "in the guest, the name of the host's gateway answers" "$(in_guest named getent ahostsv4 named.vm | awk 'NR == 1 { print $1 }')" "$address"

say "a VM that is stopped has no name"
banger vm stop named
gone() { resolvectl flush-caches; ! getent ahostsv4 named.vm >/dev/null; }
eventually 30 "named.vm is gone" gone
