#!/usr/bin/env bash
# claim: four VMs made at the same time all come up, each with an address of its own, and go at the same time
# as: dev
# needs: programs kernel image
# limit: 600
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

names=(four-a four-b four-c four-d)
started=$(now)
jobs=()
for name in "${names[@]}"; do
  at_end vm_gone "$name"
  banger vm create --name "$name" "${small[@]}" >"$scratch/$name" 2>&1 &
  jobs+=("$!")
done
for at in "${!jobs[@]}"; do
  wait "${jobs[at]}" || { cat "$scratch/${names[at]}"; fail "${names[at]} did not come up"; }
done
measure four_at_once_seconds "$(since "$started")"

banger vm list --json >"$scratch/list"
expect_equal "running" "$(jq '[.vms[] | select(.state == "running")] | length' "$scratch/list")" 4
expect_equal "addresses" "$(jq '[.vms[].address] | unique | length' "$scratch/list")" 4
for name in "${names[@]}"; do
  expect_equal "name of $name" "$(in_guest "$name" uname -n)" "$name"
done
say "a name that is taken is a conflict"
expect_status 4 banger vm create --name four-a "${small[@]}"
banger vm delete "${names[@]}"
expect_equal "VMs left" "$(banger vm list --json | jq '.vms | length')" 0
