# shellcheck shell=bash disable=SC2154 # scratch comes from check.sh
# banger as its owner uses it; source check.sh first. Scenarios of root speak in the owner's name here too.

owner_home=$(getent passwd "$SMOKE_OWNER" | cut -d: -f6)
# Emulated twice, a boot takes half a minute.
patience=300
# Several VMs must fit into the test host.
small=(--vcpu 1 --memory 512 --disk-size 1G --wait-timeout "$patience")

as_owner() {
  if [ "$(id -un)" = "$SMOKE_OWNER" ]; then
    # A program, never a function of the same name.
    env "$@"
  else
    runuser -u "$SMOKE_OWNER" -- env -i HOME="$owner_home" USER="$SMOKE_OWNER" LOGNAME="$SMOKE_OWNER" \
      PATH=/usr/local/bin:/usr/bin:/bin TERM=dumb XDG_RUNTIME_DIR="/run/user/$(id -u "$SMOKE_OWNER")" "$@"
  fi
}
banger() { as_owner banger --color never "$@" </dev/null; }

# Before something is measured: what the run before left to be written and torn down slows the next one by a second or more.
settle() {
  sync
  sleep 2
}

# Runs a command of which a certain exit status is expected, and shows what it printed if it had another.
expect_status() { # STATUS COMMAND…
  local wanted=$1 status=0
  shift
  "$@" >"$scratch/said" 2>&1 || status=$?
  [ "$status" -eq "$wanted" ] || { cat "$scratch/said" >&2; fail "\`$*\` ended with $status, not $wanted"; }
}
# What that command printed has a line with this text.
expect_said() { grep -qF -- "$1" "$scratch/said" || { cat "$scratch/said" >&2; fail "nothing said: $1"; }; }

# vm_up NAME [OPTION…]: a small VM that answers, deleted at the end.
vm_up() {
  local name=$1
  shift
  at_end vm_gone "$name"
  banger vm create --name "$name" "${small[@]}" "$@"
}
vm_gone() {
  banger vm show "$1" >/dev/null 2>&1 || return 0
  # The runner looks for it: under emulation that is no fault of what was to be shown.
  banger vm logs "$1" 2>/dev/null | grep -aF -m 1 'Kernel panic' | sed "s/^/guest died: $1: /" || true
  [ "${scenario_status:-0}" -eq 0 ] || vm_last_state "$1"
  banger vm delete --discard "$1" 2>&1
}
# A guest can also reset or stand still without a word.
vm_last_state() {
  case $(vm_field "$1" '.state + " " + (.unclean | tostring)') in
    'stopped true') echo "guest died: $1: it ended by itself" ;;
    # It is tried for 20 seconds.
    'running '*) banger vm exec "$1" -- true >/dev/null 2>&1 || echo "guest died: $1: it runs and does not answer" ;;
  esac
}
vm_field() { banger vm show "$1" --json | jq -r "$2"; }
vm_boot_id() { in_guest "$1" cat /proc/sys/kernel/random/boot_id; }
vm_state_is() { [ "$(vm_field "$1" .state)" = "$2" ]; }
in_guest() { # NAME COMMAND…
  local name=$1
  shift
  banger vm exec "$name" -- "$@"
}
# guest_reaches NAME ADDRESS PORT [SECONDS]: something there accepts a connection of the guest's.
guest_reaches() { in_guest "$1" timeout "${4:-5}" bash -c "exec 3<>/dev/tcp/$2/$3" >/dev/null 2>&1; }
# reached_by NAME ADDRESS:PORT…: those where something accepts a connection of the guest's, all tried at the same time. Name one
# that does, too: printing none could also mean that none was tried. No program is run for each: emulated twice, six of them
# take longer to begin than a connection is waited for.
reached_by() {
  # shellcheck disable=SC2016 # the guest's own variables
  in_guest "$1" bash -c '
    for target; do
      { exec 3<>"/dev/tcp/${target%:*}/${target#*:}" && echo "$target"; } 2>/dev/null &
    done
    sleep 8
    kill $(jobs -p) 2>/dev/null
    wait' bash "${@:2}"
}
daemon_answers() { banger vm list >/dev/null 2>&1; }

# A repository with a Makefile, as the owner would have it.
make_repository() { # DIRECTORY
  as_owner git init -q -b main "$1"
  as_owner tee "$1/Makefile" >/dev/null <<'MAKE'
test:
	@echo "tests ran on $$(uname -n) in $$(pwd)"
	@test "$$(cat tracked)" = tracked && test ! -e untracked && test ! -e ignored.o
MAKE
  as_owner tee "$1/tracked" >/dev/null <<<tracked
  as_owner tee "$1/.gitignore" >/dev/null <<<'*.o'
  as_owner git -C "$1" add -A
  as_owner git -C "$1" commit -q -m one
  as_owner tee "$1/untracked" >/dev/null <<<untracked
  as_owner tee "$1/ignored.o" >/dev/null <<<ignored
}

# On which ones guests of banger run, for a VMM by hand beside them. Without a limit, all.
processors_of_guests() {
  local limit
  limit=$(systemctl show --value --property AllowedCPUs banger.slice)
  printf '%s\n' "${limit:-0-$(($(nproc) - 1))}"
}

# For a bench that compares: an emulated host keeps guests on one processor (smoke/src/host/machine.rs), which the other side
# would not be.
on_all_processors() {
  local place=/run/systemd/system/banger.slice.d/one-processor.conf
  [ -e "$place" ] || return 0
  mv "$place" "$scratch/one-processor"
  systemctl daemon-reload
  # What runs keeps the limits it was started with.
  systemctl restart banger.slice
  at_end systemctl restart banger.slice
  at_end systemctl daemon-reload
  at_end mv "$scratch/one-processor" "$place"
}
