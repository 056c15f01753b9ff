#!/usr/bin/env bash
# claim: kill -9 of a machine monitor: the VM is told to be stopped, uncleanly, and nothing of it stays in the kernel; it starts again
# as: root
# stage: faults
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

vm_up shot
in_guest shot sh -c 'echo kept >/root/kept; sync'
kill -9 "$(vm_field shot .vmm_pid)"
not_running() { ! vm_state_is shot running; }
eventually 60 "the VM is not told to be running" not_running
expect_equal state "$(vm_field shot .state)" stopped
expect_equal unclean "$(vm_field shot .unclean)" true
no_kernel_objects() {
  ! dmsetup ls | grep -q fc-rootfs && [ -z "$(losetup --list --noheadings)" ] &&
    [ -z "$(systemctl list-units --no-legend --plain --state=active 'banger-vm-*.service')" ]
}
eventually 30 "its disks are released" no_kernel_objects

say "what was synced is there when it starts again"
banger vm start shot --wait-timeout "$patience"
expect_equal "file" "$(in_guest shot cat /root/kept)" kept
