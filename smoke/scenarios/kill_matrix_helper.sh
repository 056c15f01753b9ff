#!/usr/bin/env bash
# claim: kill -9 of bangerd-root, with a VM running and while one is made: it is started again, VMs run on, nothing is lost
# as: root
# stage: faults
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

kill_service() { kill -9 "$(systemctl show -P MainPID "$1")"; }
helper_is_up() { systemctl is-active --quiet bangerd-root.service; }
vm_up bystander
boot=$(vm_boot_id bystander)

say "with a VM running"
kill_service bangerd-root.service
eventually 60 "it is up again" helper_is_up
expect_equal "boot id" "$(vm_boot_id bystander)" "$boot"
expect_equal state "$(vm_field bystander .state)" running

say "while another is made, at three moments of its making"
for pause in 0.3 1 2; do
  banger vm create --name torn "${small[@]}" >"$scratch/torn" 2>&1 &
  create=$!
  sleep "$pause"
  kill_service bangerd-root.service
  status=0
  wait "$create" || status=$?
  say "killed after $pause s, the command ended with $status"
  eventually 60 "it is up again" helper_is_up
  vm_gone torn
  expect_equal "VMs" "$(banger vm list --json | jq '.vms | length')" 1
done
expect_equal "boot id at the end" "$(vm_boot_id bystander)" "$boot"
