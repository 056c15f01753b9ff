#!/usr/bin/env bash
# claim: console, ports and shell of a VM are there; what was killed says so; prune takes only what does not run; two runs at a time keep apart
# as: dev
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

say "two runs at the same time"
run_one() { banger vm run --rm --name "$1" "${small[@]}" -- sh -c "echo from \$(uname -n); exit $2" >"$scratch/$1" 2>&1; }
run_one left 3 &
left=$!
run_one right 4 &
right=$!
status=0
wait "$left" || status=$?
expect_equal "exit status of one ($(cat "$scratch/left"))" "$status" 3
status=0
wait "$right" || status=$?
expect_equal "exit status of the other ($(cat "$scratch/right"))" "$status" 4
for name in left right; do grep -qx "from $name" "$scratch/$name" || fail "$name said $(cat "$scratch/$name")"; done
expect_equal "VMs left" "$(banger vm list --json | jq '.vms | length')" 0

say "console, ports, shell"
vm_up lives
banger vm logs lives >"$scratch/console"
grep -aq 'banger-guest: reachable' "$scratch/console" || fail "the console has no word of init's: $(head -c 2000 "$scratch/console")"
ssh_is_listed() { banger vm ports lives --json | jq -e '.ports | any(.port == 22 and .protocol == "tcp")'; }
eventually 60 "the SSH server among the ports" ssh_is_listed
expect_equal "name in a shell" "$(banger vm ssh lives -- uname -n)" lives
expect_status 9 banger vm ssh lives -- sh -c 'exit 9'

say "prune takes what does not run, and nothing else"
at_end vm_gone rests
banger vm create --name rests --no-start "${small[@]}"
expect_status 5 banger vm prune
banger vm prune -f
expect_equal "VMs left" "$(banger vm list --json | jq -c '[.vms[].name]')" '["lives"]'

say "what was killed says so and starts again"
banger vm kill lives
expect_equal "state of what was killed" "$(vm_field lives '.state + " " + (.unclean | tostring)')" "stopped true"
banger vm start lives --wait-timeout "$patience"
expect_equal "name after it" "$(in_guest lives uname -n)" lives
banger vm delete lives
expect_equal "VMs left" "$(banger vm list --json | jq '.vms | length')" 0
