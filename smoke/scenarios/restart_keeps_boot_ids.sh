#!/usr/bin/env bash
# claim: restarting both services, and installing another build over this one, touches no VM; VMs keep their owner
# as: root
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

pids() { systemctl show -P MainPID bangerd.service bangerd-root.service; }
vm_up survivor
boot=$(vm_boot_id survivor) vmm=$(vm_field survivor .vmm_pid) before=$(pids)
expect_same_vm() {
  expect_equal "boot id after $1" "$(vm_boot_id survivor)" "$boot"
  expect_equal "machine monitor after $1" "$(vm_field survivor .vmm_pid)" "$vmm"
}

say "a restart"
/usr/local/bin/banger system restart
[ "$(pids)" != "$before" ] || fail "nothing was restarted"
expect_same_vm "a restart"

say "an installation over this one: programs and units that differ are replaced, what changed restarts"
before=$(pids)
cp -R "$SMOKE/bin" "$scratch/bin"
# Another build of the same version: the same program with something behind its end.
for program in bangerd bangerd-root firecracker; do echo other-build >>"$scratch/bin/$program"; done
"$scratch/bin/banger" system install | tee "$scratch/said"
for what in "replaced   /usr/local/lib/banger/bangerd" "replaced   /usr/local/lib/banger/firecracker" bangerd-root.service; do
  expect_said "$what"
done
[ "$(pids)" != "$before" ] || fail "the new programs do not run"
expect_same_vm "an upgrade"
cmp "$scratch/bin/bangerd" /usr/local/lib/banger/bangerd

say "a build that does not start is taken back"
printf '#!/bin/sh\ntest "$1" = --version && { echo bangerd %s; exit; }\nexit 1\n' \
  "$("$SMOKE/bin/bangerd" --version | cut -d' ' -f2)" >"$scratch/bin/bangerd"
expect_status 1 "$scratch/bin/banger" system install
expect_said "taken back"
cmp "$scratch/bin/firecracker" /usr/local/lib/banger/firecracker
! cmp -s "$scratch/bin/bangerd" /usr/local/lib/banger/bangerd || fail "the broken one is still there"
expect_same_vm "a failed upgrade"

say "owner and network stay while there is a VM"
expect_status 5 "$SMOKE/bin/banger" system install --owner nobody
expect_status 5 "$SMOKE/bin/banger" system install --network 10.77.0.0/24

say "back to the build under test"
"$SMOKE/bin/banger" system install >/dev/null
cmp "$SMOKE/bin/bangerd" /usr/local/lib/banger/bangerd
expect_same_vm "the way back"
