#!/usr/bin/env bash
# claim: 100,000 hostile frames and every trick with files and descriptors: the helper lives, touches nothing, tells all
# as: root
# stage: host
# needs: kernel programs
# limit: 1500
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/firecracker.sh"
. "$SMOKE/scenarios/lib/leaks.sh"
. "$SMOKE/scenarios/lib/helper.sh"
frames=${SMOKE_FRAMES:-100000}
# Of these many, each is looked for in the journal; of the others, in a file that stands in for it: the helper writes
# the same lines the same way, and counting 100,000 entries of an emulated host's journal takes long.
journalled=2000
audit_file=$scratch/audit
helper_install
helper_start_with "StandardError=append:$audit_file"
pid=$(helper_pid)
is_alive() { [ "$(helper_pid)" = "$pid" ]; }

say "things of others that look like banger's, and one VM of the owner's"
ip link add fc-stranger type dummy
at_end ip link delete fc-stranger
truncate -s 1M "$scratch/foreign"
foreign=$(losetup --find --show "$scratch/foreign")
at_end losetup --detach "$foreign"
dmsetup create fc-rootfs-foreign --table "0 2048 linear $foreign 0"
at_end dmsetup remove --retry fc-rootfs-foreign
nft add table inet bangers
at_end nft delete table inet bangers
helper_files "$helper_vm_a"
helper_launch "$helper_vm_a" 172.16.0.2
vmm=$(systemctl show --property MainPID --value "banger-vm-$helper_vm_a.service")
leaks_remember hostile

# hammer COUNT SEED WHAT-PRINTS-THE-AUDIT: so many frames, each refused, each written down, none forging a line.
hammer() {
  local count=$1 answer
  shift
  answer=$(helper hammer "$count" "$1" "$helper_vm_a")
  jq -c . <<<"$answer"
  expect_equal "refused" "$(jq .refused <<<"$answer")" "$count"
  measure "hostile_frames_per_second_$count" "$(jq '.frames / .seconds | floor' <<<"$answer")"
  is_alive || fail "the helper died"
  shift
  audited() { "$@" | grep -cE '^(<[0-9]>)?request .*(decision=refuse|outcome=failed)' || true; }
  all_audited() { [ "$(audited "$@")" -ge "$count" ]; }
  eventually 60 "every refusal is written down ($(audited "$@") of $count)" all_audited "$@"
  [ "$("$@" | grep -cE '^(<[0-9]>)?request op=forged' || true)" = 0 ] || fail "a forged line"
}
say "$((frames - journalled)) frames, each audited"
hammer $((frames - journalled)) 20261124 cat "$audit_file"

say "$journalled more, each in the journal; the VM of before outlives the change of helpers"
helper_kill
helper_restart
pid=$(helper_pid)
hammer "$journalled" 20261126 journalctl -u "$helper_unit" --no-pager -o cat

say "a flood of connections and descriptors: both are bounded, and the owner is served after it"
descriptors() { find "/proc/$pid/fd" | wc -l; }
before=$(descriptors)
helper flood 300 >"$scratch/flood" &
flood=$!
most=0
while kill -0 "$flood" 2>/dev/null; do
  now=$(descriptors)
  [ "$now" -le "$most" ] || most=$now
done
wait "$flood" || fail "the flood was not answered: $(cat "$scratch/flood")"
jq -c . "$scratch/flood"
[ "$most" -le $((before + 40)) ] || fail "$most descriptors"
is_alive || fail "the helper died"
eventually 20 "an answer" helper inventory

say "a teardown that is replayed is refused"
helper attach-link "$helper_vm_b" 172.16.0.3
helper create-root-disk "$helper_vm_b" "$helper_image" 16
helper teardown-vm "$helper_vm_b"
for _ in 1 2 3; do
  status=0
  helper teardown-vm "$helper_vm_b" >/dev/null || status=$?
  expect_equal "status of a replayed teardown" "$status" 3
done

say "images that are not a plain file of the owner's are refused"
images=/var/lib/banger/images
secret=$scratch/secret
echo root-only >"$secret"
truncate -s 1M "$secret"
chmod 0600 "$secret"
refused_image() { # NAME WHY
  local status=0 answer
  answer=$(helper create-root-disk "$helper_vm_b" "$1@00000000000000000000000000000001" 16) || status=$?
  expect_equal "status for $1 ($answer)" "$status" 5
  grep -q "$2" <<<"$answer" || fail "$1: $answer"
}
image_directory() { as_owner install -d "$images/$1@00000000000000000000000000000001"; }
image_directory link
as_owner ln -s "$secret" "$images/link@00000000000000000000000000000001/rootfs.ext4"
refused_image link "not a regular file"
image_directory hard
cp "$images/$helper_image/rootfs.ext4" "$images/hard-target"
chown "$SMOKE_OWNER" "$images/hard-target"
as_owner ln "$images/hard-target" "$images/hard@00000000000000000000000000000001/rootfs.ext4"
refused_image hard "2 names"
image_directory foreign
install -m 0644 "$secret" "$images/foreign@00000000000000000000000000000001/rootfs.ext4"
refused_image foreign "belongs to uid 0"
image_directory pipe
as_owner mkfifo "$images/pipe@00000000000000000000000000000001/rootfs.ext4"
refused_image pipe "not a regular file"
image_directory directory
as_owner mkdir "$images/directory@00000000000000000000000000000001/rootfs.ext4"
refused_image directory "not a regular file"
as_owner ln -s "$scratch" "$images/whole@00000000000000000000000000000001"
refused_image whole "plain directories"

say "a file that is swapped between check and use is never the other one"
image_directory swapped
as_owner truncate -s 64K "$images/small-file"
swapped=$images/swapped@00000000000000000000000000000001
cat >"$scratch/swap" <<'SWAP'
cd "$1"
while :; do
  cp ../small-file plain && mv plain rootfs.ext4
  ln -sf "$2" link && mv link rootfs.ext4
done
SWAP
chmod 0711 "$scratch"
chmod 0755 "$scratch/swap"
as_owner bash "$scratch/swap" "$swapped" "$secret" 2>/dev/null &
swapper=$!
made=0
for _ in $(seq 12); do
  if helper create-root-disk "$helper_vm_b" swapped@00000000000000000000000000000001 16 >/dev/null; then
    made=$((made + 1))
    helper attach-link "$helper_vm_b" 172.16.0.3 >/dev/null
    # It was made over a file that is gone by now: refused, or launched over exactly that one.
    if helper launch-vm "$helper_vm_b" "$helper_kernel" 1 128 >/dev/null; then fail "launched without an initrd"; fi
    helper teardown-vm "$helper_vm_b" >/dev/null
  fi
  ! losetup --list --noheadings --output BACK-FILE | grep -F "$secret" || fail "root's file is a block device"
done
pkill -P "$swapper" || true
kill "$swapper" 2>/dev/null || true
wait "$swapper" 2>/dev/null || true
say "made $made of 12 times"

say "an image that was replaced by another file of the owner's is refused at launch"
image_directory replaced
replaced=$images/replaced@00000000000000000000000000000001/rootfs.ext4
as_owner cp "$images/$helper_image/rootfs.ext4" "$replaced"
helper create-root-disk "$helper_vm_b" replaced@00000000000000000000000000000001 16
helper attach-link "$helper_vm_b" 172.16.0.3
as_owner cp "$images/$helper_image/rootfs.ext4" "$replaced.new"
as_owner mv "$replaced.new" "$replaced"
helper_files "$helper_vm_b"
status=0
answer=$(helper launch-vm "$helper_vm_b" "$helper_kernel" 1 128) || status=$?
expect_equal "status of the launch ($answer)" "$status" 5
helper teardown-vm "$helper_vm_b"

say "files of a VM and of its kernel that are not plain files of the owner's are not mounted into a jail"
helper attach-link "$helper_vm_b" 172.16.0.3
helper create-root-disk "$helper_vm_b" "$helper_image" 16
vm=/var/lib/banger/vms/$helper_vm_b
refused_launch() { # WHAT WHY
  local answer status=0
  answer=$(helper launch-vm "$helper_vm_b" "$helper_kernel" 1 128) || status=$?
  expect_equal "status with $1 ($answer)" "$status" 5
  grep -q "work.ext4: $2" <<<"$answer" || fail "$1: $answer"
}
as_owner mv "$vm/work.ext4" "$vm/kept"
as_owner ln -s "$secret" "$vm/work.ext4"
refused_launch "a work disk that is a link" "it is not a regular file"
as_owner rm "$vm/work.ext4"
cp "$secret" "$vm/work.ext4"
refused_launch "a work disk that is root's" "it belongs to uid 0"
rm "$vm/work.ext4"
as_owner ln "$vm/kept" "$vm/work.ext4"
refused_launch "a work disk with two names" "it has 2 names"
as_owner rm "$vm/work.ext4"
as_owner mkfifo "$vm/work.ext4"
refused_launch "a work disk that is a pipe" "it is not a regular file"
as_owner rm "$vm/work.ext4"
as_owner mv "$vm/kept" "$vm/work.ext4"

say "a console log that leads to root's file is not written"
as_owner rm -f "$vm/console.log"
as_owner ln -s "$secret" "$vm/console.log"
if helper launch-vm "$helper_vm_b" "$helper_kernel" 1 128 >/dev/null; then fail "launched with it"; fi
expect_equal "root's file" "$(head -c 9 "$secret")" root-only
as_owner rm "$vm/console.log"
as_owner mv "$vm" "$vm.moved"
as_owner ln -s "$scratch" "$vm"
if helper launch-vm "$helper_vm_b" "$helper_kernel" 1 128 >/dev/null; then fail "launched from elsewhere"; fi
as_owner rm "$vm"
as_owner mv "$vm.moved" "$vm"

say "after all that it still launches what is in order"
helper launch-vm "$helper_vm_b" "$helper_kernel" 1 128
helper teardown-vm "$helper_vm_b"
is_alive || fail "the helper died"
expect_equal "machine monitor of the first VM" \
  "$(systemctl show --property MainPID --value "banger-vm-$helper_vm_a.service")" "$vmm"
rm -rf "${images:?}"/{link,hard,foreign,pipe,directory,whole,swapped,replaced}@* "$images/hard-target" "$images/small-file" "$vm"
leaks_compare hostile
