#!/usr/bin/env bash
# claim: the exit status, the two outputs and the input of a command in a VM are those of the command; what makes no sense leaves no VM
# as: dev
# needs: programs kernel image
# limit: 300
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

say "42 comes back as 42"
status=0
echo input | command banger --color never vm run --rm "${small[@]}" -- sh -c 'cat; echo error >&2; exit 42' \
  >"$scratch/out" 2>"$scratch/err" || status=$?
cat "$scratch/err"
expect_equal "exit status" "$status" 42
expect_equal "standard output" "$(cat "$scratch/out")" input
grep -qx error "$scratch/err" || fail "standard error is lost"

say "a size or a name that cannot be is refused, and no row is left"
expect_status 2 banger vm create --vcpu 0
expect_status 2 banger vm create --name 'No_Name'
expect_status 2 banger vm create --memory 4X
expect_status 3 banger vm create --name typo --image no-such-image
expect_equal "VMs left" "$(banger vm list --json | jq '.vms | length')" 0
