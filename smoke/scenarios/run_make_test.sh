#!/usr/bin/env bash
# claim: `banger vm run --rm ./repo -- make test` runs the tests of a repository in a VM and leaves no VM
# as: dev
# needs: programs kernel image
# limit: 300
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

make_repository "$scratch/repo"
cd "$scratch"
started=$(now)
expect_status 0 banger vm run --rm --name tests "${small[@]}" ./repo -- make test
measure run_seconds "$(since "$started")"
cat "$scratch/said"
expect_said "tests ran on tests in /root/repo"
expect_equal "VMs left" "$(banger vm list --json | jq '.vms | length')" 0
