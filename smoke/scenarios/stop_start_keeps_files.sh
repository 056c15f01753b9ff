#!/usr/bin/env bash
# claim: a VM that is stopped and started again has its files, on the root disk and on the work disk, and what `vm set` changed
# as: dev
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

vm_up keeps
first=$(vm_boot_id keeps)
in_guest keeps sh -c 'echo root >/etc/marker; echo work >/root/marker'
say "CPUs and memory cannot change while it runs"
expect_status 4 banger vm set keeps --vcpu 2
banger vm stop keeps
expect_equal state "$(vm_field keeps .state)" stopped
expect_equal "killed instead of stopped" "$(vm_field keeps .unclean)" false
banger vm set keeps --vcpu 2 --memory 640
expect_status 4 banger vm exec keeps -- true

banger vm start keeps --wait-timeout "$patience"
[ "$(vm_boot_id keeps)" != "$first" ] || fail "it did not boot again"
expect_equal "file on the root disk" "$(in_guest keeps cat /etc/marker)" root
expect_equal "file on the work disk" "$(in_guest keeps cat /root/marker)" work
expect_equal "CPUs" "$(in_guest keeps nproc)" 2
memory=$(in_guest keeps awk '$1 == "MemTotal:" { print int($2 / 1024) }' /proc/meminfo)
if [ "$memory" -le 540 ] || [ "$memory" -gt 640 ]; then fail "it has $memory MiB, not about 640"; fi
