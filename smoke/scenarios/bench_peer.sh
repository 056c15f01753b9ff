#!/usr/bin/env bash
# claim: a BusyBox image runs a command in at most 0.8 of microsandbox's time
# as: root
# needs: programs kernel microvm peer
# run: asked
# limit: 1200
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

# SMOKE_PEER has `msb`, `libkrunfw.so` and `image.tar`: a `docker save` archive of an image of a static BusyBox alone (one
# layer with /bin/busybox and links to it for sh and echo, tag localhost/bb:1). The same file for both, the same host,
# alternating; the better of three runs each, because single runs under two emulations differ by more than 0.2.
[ -x "$SMOKE_PEER/msb" ] || skip "the peer's programs are not in the payload"
on_all_processors
export MSB_PATH=$SMOKE_PEER/msb MSB_LIBKRUNFW_PATH=$SMOKE_PEER/libkrunfw.so MSB_HOME=$scratch/msb
mkdir "$MSB_HOME"

# The peer brings a kernel made for virtual machines. Ours of that kind is the image's; the distribution's is measured too.
release=$(jq -r .release "$SMOKE_MICROVM/manifest.json")
install -m 0644 -o "$SMOKE_OWNER" "$SMOKE_MICROVM/vmlinux" "$owner_home/vmlinux"
banger kernel import microvm --kernel "$owner_home/vmlinux" --release "$release"
rm "$owner_home/vmlinux"
at_end banger kernel delete microvm
banger image pull "docker-archive:$SMOKE_PEER/image.tar" --name bb --kernel-ref microvm
at_end banger image delete bb
"$MSB_PATH" load -i "$SMOKE_PEER/image.tar" -t localhost/bb >/dev/null

# A guest of two emulations can die of them, banger's and the peer's alike; four times in a row it cannot.
alive() {
  local attempt
  for attempt in 1 2 3 4; do
    "$1" "$2-$attempt" && return 0
    say "$1 $2-$attempt did not live" >&2
  done
  fail "$1 does not run here"
}
# Both are measured from a shell of their user's, who is logged in already.
by_banger() { ours_of "bb-$1"; }
by_banger_with_the_distributions() { ours_of "bb-generic-$1" --kernel-ref "$(basename "$SMOKE_KERNEL" | cut -d@ -f1)"; }
ours_of() { # NAME [OPTION…]
  local name=$1
  shift
  settle
  # shellcheck disable=SC2016 # that shell's own variables
  as_owner bash -c '
    name=$1 began=$EPOCHREALTIME
    shift
    said=$(banger --color never --quiet vm run --rm --name "$name" "$@" --image bb -- echo peer </dev/null) || exit 1
    [ "$said" = peer ] || exit 1
    awk -v began="$began" -v ended="$EPOCHREALTIME" "BEGIN { printf \"%.2f\", ended - began }"
  ' bash "$name" "$@" "${small[@]}" || {
    banger vm delete "$name" >&2 || true
    return 1
  }
}
# A sandbox without a name goes with its command, as a VM does with --rm; one with a name stays, and is not taken away within
# the time.
by_peer() { peer "$1"; }
by_peer_that_keeps() { peer "$1" --name "peer-$1"; }
peer() { # RUN [OPTION…]
  local started status=0
  shift
  settle
  started=$(now)
  "$MSB_PATH" run --no-tty --no-stdin --cpus 1 --memory 512M "$@" localhost/bb -- /bin/echo peer >"$scratch/peer" 2>"$scratch/peer-says" </dev/null || status=$?
  [ "$status" -ne 0 ] || since "$started"
  peer_sandboxes >"$scratch/sandboxes"
  # Its keeper may be a moment behind.
  [ $# -gt 0 ] || [ "$status" -ne 0 ] || eventually 10 "the end of a sandbox without a name" peer_has_none
  while read -r sandbox; do
    [ "$status" -eq 0 ] || "$MSB_PATH" logs --source system "$sandbox" 2>&1 </dev/null | tail -n 20 >&2
    "$MSB_PATH" rm "$sandbox" </dev/null >/dev/null 2>&1 || true
  done <"$scratch/sandboxes"
  [ "$status" -eq 0 ] || { cat "$scratch/peer-says" >&2; return 1; }
  expect_equal "msb's output" "$(tr -d '\r' <"$scratch/peer")" peer
}
peer_sandboxes() { "$MSB_PATH" list --quiet </dev/null; }
peer_has_none() { [ -z "$(peer_sandboxes)" ]; }
better() { printf '%s\n' "$@" | sort -n | head -n 1; }

# The first run of each reads its image from disk and does not count.
alive by_banger warm >/dev/null
alive by_banger_with_the_distributions warm >/dev/null
alive by_peer warm >/dev/null
ours=() generic=() theirs=() keeping=()
for round in 1 2 3; do
  ours+=("$(alive by_banger "$round")")
  generic+=("$(alive by_banger_with_the_distributions "$round")")
  theirs+=("$(alive by_peer "$round")")
  keeping+=("$(alive by_peer_that_keeps "$round")")
done
say "banger ${ours[*]} s, with the distribution's kernel ${generic[*]} s, microsandbox ${theirs[*]} s, and with a name ${keeping[*]} s"
for round in 0 1 2; do
  measure "peer_banger_seconds_$((round + 1))" "${ours[$round]}"
  measure "peer_banger_generic_kernel_seconds_$((round + 1))" "${generic[$round]}"
  measure "peer_microsandbox_seconds_$((round + 1))" "${theirs[$round]}"
  measure "peer_microsandbox_named_seconds_$((round + 1))" "${keeping[$round]}"
done
best_ours=$(better "${ours[@]}") best_generic=$(better "${generic[@]}")
best_theirs=$(better "${theirs[@]}") best_keeping=$(better "${keeping[@]}")
measure peer_banger_seconds "$best_ours"
measure peer_banger_generic_kernel_seconds "$best_generic"
measure peer_microsandbox_seconds "$best_theirs"
measure peer_microsandbox_named_seconds "$best_keeping"
measure peer_ratio_generic_kernel "$(awk -v a="$best_generic" -v b="$best_theirs" 'BEGIN { printf "%.2f", a / b }')"
measure peer_ratio_named "$(awk -v a="$best_ours" -v b="$best_keeping" 'BEGIN { printf "%.2f", a / b }')"
measure peer_ratio "$(awk -v a="$best_ours" -v b="$best_theirs" 'BEGIN { printf "%.2f", a / b }')"
