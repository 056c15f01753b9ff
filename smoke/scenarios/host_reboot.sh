#!/usr/bin/env bash
# claim: after a reboot of the host the services are up, a VM that ran is told to be stopped, uncleanly, and starts again with its files
# as: root
# stage: faults
# reboot: yes
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

if [ "$SMOKE_PHASE" = before ]; then
  banger vm create --name rebooted "${small[@]}"
  in_guest rebooted sh -c 'echo kept >/root/kept; echo kept >/etc/kept; sync'
  exit 0
fi

at_end vm_gone rebooted
for unit in bangerd-root.service bangerd.service; do
  expect_equal "$unit" "$(systemctl is-active "$unit")" active
done
eventually 30 "the daemon answers" daemon_answers
expect_equal state "$(vm_field rebooted .state)" stopped
expect_equal unclean "$(vm_field rebooted .unclean)" true
expect_equal "machine monitors" "$(systemctl list-units --no-legend --plain 'banger-vm-*.service')" ""
banger vm start rebooted --wait-timeout "$patience"
expect_equal "file on the work disk" "$(in_guest rebooted cat /root/kept)" kept
expect_equal "file on the root disk" "$(in_guest rebooted cat /etc/kept)" kept
