#!/usr/bin/env bash
# claim: kill -9 of bangerd, with a VM running and while one is made: systemd starts it again, the VM runs on, what is told is true
# as: root
# stage: faults
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

kill_service() { kill -9 "$(systemctl show -P MainPID "$1")"; }
vm_up bystander
boot=$(vm_boot_id bystander) vmm=$(vm_field bystander .vmm_pid)

say "with a VM running"
kill_service bangerd.service
eventually 60 "it answers again" daemon_answers
expect_equal state "$(vm_field bystander .state)" running
expect_equal "boot id" "$(vm_boot_id bystander)" "$boot"
expect_equal "machine monitor" "$(vm_field bystander .vmm_pid)" "$vmm"

say "while a VM is made"
at_end vm_gone torn
banger vm create --name torn "${small[@]}" >"$scratch/torn" 2>&1 &
create=$!
booting() { banger vm list --json | jq -e '.vms[] | select(.name == "torn" and .state == "booting")'; }
eventually 60 "the new VM boots" booting
kill_service bangerd.service
! wait "$create" || fail "the command believes it worked"
cat "$scratch/torn"
eventually 60 "it answers again" daemon_answers
expect_equal "the other VM" "$(vm_boot_id bystander)" "$boot"
told=$(banger vm list --json | jq -r '.vms[] | select(.name == "torn") | .state')
runs=$(systemctl list-units --no-legend --plain --state=active 'banger-vm-*.service' | wc -l)
say "it is told to be '${told:-gone}', and $runs machine monitors run"
case $told in
  running | booting) expect_equal "machine monitors" "$runs" 2 ;;
  *) expect_equal "machine monitors" "$runs" 1 ;;
esac
