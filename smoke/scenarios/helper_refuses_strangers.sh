#!/usr/bin/env bash
# claim: only the owner and root reach the helper: another user is refused at connect, and by uid if the file let them
# as: root
# stage: host
# needs: kernel programs
# limit: 120
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/firecracker.sh"
. "$SMOKE/scenarios/lib/helper.sh"
helper_install
helper_start
socket=/run/banger-root/bangerd-root.sock
stranger() { runuser -u nobody -- "$SMOKE/bin/banger-boundary" "$@"; }

say "the socket is the owner's alone, behind a directory of root's"
expect_equal "socket" "$(stat -c '%U %a %F' "$socket")" "$SMOKE_OWNER 600 socket"
expect_equal "its directory" "$(stat -c '%U %a' /run/banger-root)" "root 711"
expect_equal "ledger" "$(stat -c '%U %a' "$helper_state/ledger")" "root 700"
expect_equal "copy-on-write stores" "$(stat -c '%U %a' "$helper_state/cow")" "root 700"

say "the owner and root are answered"
helper inventory
"$SMOKE/bin/banger-boundary" inventory

say "another user is refused at connect"
status=0
answer=$(stranger inventory) || status=$?
expect_equal "status" "$status" 6
grep -q 'Permission denied' <<<"$answer" || fail "$answer"

say "even through a socket that everybody may write, the kernel's word on who it is counts"
chmod 0666 "$socket"
for request in inventory ensure-network "teardown-vm $helper_vm_a" "attach-link $helper_vm_a 172.16.0.2"; do
  status=0
  # shellcheck disable=SC2086 # words
  answer=$(stranger $request) || status=$?
  expect_equal "status of $request" "$status" 5
  expect_equal "answer to $request" "$(jq -r .refused <<<"$answer")" refused
done
nobody=$(id -u nobody)
refused() { journalctl -u "$helper_unit" --no-pager -o cat | grep -c "uid=$nobody .*decision=refuse reason=\"uid $nobody may not"; }
all_refused() { [ "$(refused)" -ge 4 ]; }
eventually 20 "the refusals in the journal" all_refused
[ -z "$(ip -o link show | grep br-fc || true)" ] || fail "a stranger made a bridge"
