# shellcheck shell=bash
# What every scenario uses. Source it first: `. "$SMOKE/scenarios/lib/check.sh"`.
#
# Given by the runner: SMOKE (the payload), SMOKE_OWNER, SMOKE_KERNEL, SMOKE_IMAGE (directories of banger's stores).
set -euo pipefail
# A step that fails inside `$(…)` fails the scenario too.
shopt -s inherit_errexit
trap 'echo "failed at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR

# A directory of this scenario, removed at its end. /var/tmp: /tmp may be memory.
scratch=$(mktemp -d /var/tmp/smoke.XXXXXX)

# Steps of the clean-up, run last first at the end, whatever happened; a failure of one stops no other but counts.
cleanups=()
at_end() { cleanups=("$*" "${cleanups[@]}"); }
finish() {
  local status=$? step
  # For steps that look closer if it failed.
  scenario_status=$status
  trap - ERR
  set +e
  for step in "${cleanups[@]}"; do
    eval "$step" || { echo "clean-up failed: $step" >&2; [ "$status" -ne 0 ] || status=1; }
  done
  rm -rf "$scratch"
  exit "$status"
}
trap finish EXIT

say() { echo "- $*"; }
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
# The runner counts it as skipped and shows the reason.
skip() {
  echo "skipped: $*"
  exit 77
}
# A number for the report.
measure() { echo "measure: $1 $2"; }
# Seconds since the epoch, with fractions.
now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.2f", to - from }'; }

# The tap of the guest with this address.
tap_of() {
  local bytes
  IFS=. read -ra bytes <<<"$1"
  printf 'fc-%02x%02x%02x%02x' "${bytes[@]}"
}

expect_equal() { # WHAT FOUND EXPECTED
  [ "$2" = "$3" ] || fail "$1: expected '$3', found '$2'"
}
# Waits until a command succeeds: eventually SECONDS WHAT COMMAND…
eventually() {
  local give_up=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$give_up" ] || fail "not in time: $what"
    sleep 0.2
  done
}
