#!/usr/bin/env bash
# claim: development only
# as: root
# stage: host
# needs: kernel programs
# limit: 300
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/firecracker.sh"
. "$SMOKE/scenarios/lib/helper.sh"
helper_install
helper_start
say started
helper inventory
helper_files $helper_vm_a
helper_launch $helper_vm_a 172.16.0.2
helper_boot $helper_vm_a 172.16.0.2
eventually 60 hello grep -q hello-from-$helper_vm_a /var/lib/banger/vms/$helper_vm_a/console.log
helper_console $helper_vm_a
helper inventory
helper teardown-vm $helper_vm_a
