#!/usr/bin/env bash
# claim: killed in the middle of any operation, the helper that starts next knows what there is and can take it away
# as: root
# stage: host
# needs: kernel programs
# limit: 1200
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/firecracker.sh"
. "$SMOKE/scenarios/lib/leaks.sh"
. "$SMOKE/scenarios/lib/helper.sh"
helper_install
helper_start
vm=$helper_vm_a
helper_files "$vm"
helper ensure-network
before_network=$(sysctl -n net.ipv4.ip_forward)

# prepare OPERATION: everything that comes before it.
prepare() {
  case $1 in
    launch-vm | set-nat | detach-link) helper attach-link "$vm" 172.16.0.2 ;;&
    launch-vm) helper create-root-disk "$vm" "$helper_image" 64 ;;
    teardown-vm) helper_launch "$vm" 172.16.0.2 && helper set-nat "$vm" on ;;
  esac >/dev/null
}
words() {
  case $1 in
    attach-link) echo "attach-link $vm 172.16.0.2" ;;
    set-nat) echo "set-nat $vm on" ;;
    set-resolver) echo "set-resolver on" ;;
    create-root-disk) echo "create-root-disk $vm $helper_image 64" ;;
    launch-vm) echo "launch-vm $vm $helper_kernel 1 128" ;;
    detach-link | teardown-vm) echo "$1 $vm" ;;
    *) echo "$1" ;;
  esac
}
# How long the last request took, in milliseconds, as the helper wrote it down.
last_took() { journalctl -u "$helper_unit" --no-pager -o cat | sed -n 's/^request .* ms=\([0-9]*\)$/\1/p' | tail -n 1; }
teardown() {
  local status=0
  helper teardown-vm "$vm" >/dev/null || status=$?
  # 3: nothing of it was left to know.
  [ "$status" = 0 ] || [ "$status" = 3 ] || fail "teardown: status $status"
  eventually 20 "no trace of the VM: $(helper_traces)" helper_has_no_traces
}

kills=0
for operation in ensure-network attach-link set-nat set-resolver create-root-disk launch-vm detach-link teardown-vm; do
  prepare "$operation"
  # shellcheck disable=SC2046 # words
  helper $(words "$operation") >/dev/null
  takes=$(last_took)
  teardown
  helper set-resolver off >/dev/null
  # At moments spread over it, until it was caught often enough: a kill and what follows take ten seconds here.
  hit=0 tries=0
  case $operation in
    launch-vm | teardown-vm) shares=(10 60 30 75 45 90) wanted=${SMOKE_HITS:-3} ;;
    *) shares=(40 10 75 25 60) wanted=${SMOKE_HITS:-1} ;;
  esac
  for share in "${shares[@]}"; do
    [ "$hit" -lt "$wanted" ] || break
    tries=$((tries + 1))
    prepare "$operation"
    # As root, who may ask too, and may kill. 6: the helper hung up, so it was in the middle.
    status=0
    # shellcheck disable=SC2046 # words
    "$SMOKE/bin/banger-boundary" kill-after $((takes * share / 100)) "$(helper_pid)" $(words "$operation") \
      >/dev/null || status=$?
    [ "$status" != 6 ] || hit=$((hit + 1))
    helper_restart
    helper inventory >/dev/null
    # What it says exists is what exists, and it can be had again or taken away.
    teardown
    helper set-resolver off >/dev/null
    kills=$((kills + 1))
  done
  say "$operation takes $takes ms, killed $hit of $tries times in its middle, nothing was left"
  [ "$hit" -gt 0 ] || fail "$operation was never hit"
  expect_equal "forwarding" "$(sysctl -n net.ipv4.ip_forward)" "$before_network"
done
measure kills "$kills"

say "a machine monitor outlives the helper, and the next one knows it"
helper_launch "$vm" 172.16.0.2
unit=banger-vm-$vm.service
monitor=$(systemctl show --property MainPID --value "$unit")
helper_kill
helper_restart
expect_equal "machine monitor" "$(systemctl show --property MainPID --value "$unit")" "$monitor"
expect_equal "pid in the inventory" "$(helper inventory | jq '.vms[0].pid')" "$monitor"

say "a machine monitor that is killed leaves nothing but the VM's disk and link"
kill -9 "$monitor"
settled() { [ "$(helper inventory | jq '.vms[0].pid')" = 0 ]; }
eventually 20 "it is seen to have ended" settled
[ -z "$(dmsetup ls | grep fc-rootfs || true)" ] || fail "the device is left"
[ ! -e "$helper_state/jail/firecracker/$vm" ] || fail "the jail is left"
[ -e "$helper_state/cow/$vm.cow" ] || fail "the store is gone"

say "killed while it was away: the same"
helper launch-vm "$vm" "$helper_kernel" 1 128
monitor=$(systemctl show --property MainPID --value "$unit")
helper_kill
kill -9 "$monitor"
helper_restart
settled || fail "it is not seen to have ended"
[ -z "$(dmsetup ls | grep fc-rootfs || true)" ] || fail "the device is left"
teardown
