#!/usr/bin/env bash
# claim: from nothing to a command's first output, banger takes about as long as Firecracker by hand with the same kernel and disks
# as: root
# needs: programs kernel image
# run: asked
# limit: 900
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/apart.sh"
. "$SMOKE/scenarios/lib/vm.sh"

# Either side makes within its time what a VM needs for itself: a snapshot of the image, a work disk, a tap. Only the work
# disk is a copy of a finished one by hand. Kernel, image and, by hand, the initrd with the guest's seed are there before.
# An emulated host keeps guests on one processor (docs/decisions/0004-smoke-host.md): so is the VMM by hand.
#
# Reported, not gated: on a machine that emulates two levels of virtualisation single runs of either side can differ by half
# and more. The median of nine runs each, alternating in both orders.

processors=$(processors_of_guests)

say "a VM of banger's tells how it is made"
vm_up pattern
id=$(vm_field pattern .id) address=$(vm_field pattern .address) port=$(vm_field pattern .connection.agent_port)
gateway=$(banger system status --json | jq -r .installation.network.gateway)
tap=$(tap_of "$address")
cp "/proc/$(vm_field pattern .vmm_pid)/root/config.json" "$scratch/pattern"
# banger has removed it: it holds the guest's private key. Its VMM still has it.
cp "/proc/$(vm_field pattern .vmm_pid)/root/initrd" "$scratch/initrd"
banger vm stop pattern
cp --sparse=always "/var/lib/banger/vms/$id/work.ext4" "$scratch/work"
banger vm delete pattern

# In a network of its own: the address is the one in the seed, and banger's rules do not hold there.
apart_up
apart ip link set lo up

jq --arg initrd "$scratch/initrd" --arg kernel "$SMOKE_KERNEL/vmlinux" --arg root /dev/mapper/smoke-raw \
  --arg modules "$SMOKE_KERNEL/modules.ext4" --arg work "$scratch/work.run" --arg vsock "$scratch/vsock" '
    .["boot-source"].kernel_image_path = $kernel | .["boot-source"].initrd_path = $initrd
    | .drives |= map(.path_on_host = (if .path_on_host == "/rootfs" then $root
                                      elif .path_on_host == "/modules.ext4" then $modules else $work end))
    | .vsock.uds_path = $vsock
    | del(.logger, .metrics, .["mmds-config"], .balloon, .["cpu-config"])
    | with_entries(select(.value != null))' "$scratch/pattern" >"$scratch/config"

by_hand() {
  local origin cow started vmm devices greeted
  settle
  rm -f "$scratch/cow" "$scratch/vsock" "$scratch/work.run"
  started=$(now)
  apart ip -batch - <<EOF
tuntap add dev $tap mode tap
addr add $gateway/24 dev $tap
link set $tap up
EOF
  cp --sparse=always "$scratch/work" "$scratch/work.run"
  truncate -s 8G "$scratch/cow"
  origin=$(losetup --find --show --read-only "$SMOKE_IMAGE/rootfs.ext4")
  cow=$(losetup --find --show "$scratch/cow")
  dmsetup create smoke-raw --table "0 $(blockdev --getsz "$origin") snapshot $origin $cow P 8"
  devices=$(since "$started")
  # Not through the function: the pid must be the program's.
  taskset --cpu-list "$processors" nsenter --target "$apart_pid" --net "$SMOKE/bin/firecracker" --no-api --id raw \
    --config-file "$scratch/config" </dev/null >"$scratch/console" 2>&1 &
  vmm=$!
  until apart nc -z -w 1 "$address" "$port" 2>/dev/null; do
    [ -d "/proc/$vmm" ] || { tail -n 20 "$scratch/console" >&2; fail "Firecracker ended"; }
    sleep 0.1
  done
  greeted=$(since "$started")
  apart ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
    -i "$owner_home/.local/state/banger/ssh/id_ed25519" -p "$port" "root@$address" echo first >"$scratch/first"
  printf '%s %s %s\n' "$(since "$started")" "$devices" "$greeted"
  kill -9 "$vmm"
  wait "$vmm" 2>/dev/null || true
  [ "$(cat "$scratch/first")" = first ] || fail "nothing came from the guest"
  apart ip link delete "$tap"
  dmsetup remove --retry smoke-raw
  losetup --detach "$cow"
  losetup --detach "$origin"
}
# From a shell in which the owner is logged in already.
by_banger() {
  settle
  # shellcheck disable=SC2016 # that shell's own variables
  as_owner bash -c '
    began=$EPOCHREALTIME
    banger --color never vm run --rm "$@" -- echo first </dev/null 2>"$HOME/first.err" | {
      read -r line
      ended=$EPOCHREALTIME
      [ "$line" = first ] || exit 1
      awk -v began="$began" -v ended="$ended" "BEGIN { printf \"%.2f \", ended - began }"
      cat >/dev/null
    }' bash "${small[@]}"
  sed -n 's/.*reachable \([0-9.]*\) s after its VMM.*/\1/p' "$owner_home/first.err"
  rm -f "$owner_home/first.err"
}
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
# What is not the wait for the guest: a boot takes a second more or less for reasons of its own, on both sides.
# To compare builds, not the sides: ours is counted from before the launch, by hand it begins when the devices are there.
around() { awk -v total="$1" -v from="$2" -v to="$3" 'BEGIN { printf "%.2f", total - (to - from) }'; }

hands=() ours=() hands_around=() ours_around=()
hand_once() {
  local total devices greeted
  by_hand >"$scratch/turn"
  read -r total devices greeted <"$scratch/turn"
  hands+=("$total") hands_around+=("$(around "$total" "$devices" "$greeted")")
}
our_once() {
  local total reachable
  by_banger >"$scratch/turn"
  read -r total reachable <"$scratch/turn"
  ours+=("$total") ours_around+=("$(around "$total" 0 "$reachable")")
}
for turn in 1 2 3 4 5 6 7 8 9; do
  [ $((turn % 2)) = 0 ] || hand_once
  our_once
  [ $((turn % 2)) = 1 ] || hand_once
done
say "by hand ${hands[*]}, with banger ${ours[*]}"
say "without the wait for the guest: by hand ${hands_around[*]}, with banger ${ours_around[*]}"
hand=$(median "${hands[@]}") our=$(median "${ours[@]}")
say "by hand $hand s, with banger $our s"
measure first_output_by_hand_seconds "$hand"
measure first_output_seconds "$our"
measure first_output_ratio "$(awk -v our="$our" -v hand="$hand" 'BEGIN { printf "%.2f", our / hand }')"
measure first_output_by_hand_around_seconds "$(median "${hands_around[@]}")"
measure first_output_around_seconds "$(median "${ours_around[@]}")"
