# shellcheck shell=bash
# What the host has that a VM could leave behind, as text: sourced, or called through lib/leaks. Needs root.
#
#   leaks_observe DIR          writes one sorted file per kind of object into DIR
#   leaks_remember NAME        keeps what there is now
#   leaks_keep NAME            the same, unless that name has been kept before
#   leaks_compare NAME         fails, and says what differs, unless within LEAKS_PATIENCE seconds nothing does
#
# What comes and goes without banger is left out: kernel threads, udev's workers, and the sessions of whoever looks.

LEAKS_DIRECTORY=/var/tmp/smoke-leaks
LEAKS_PATIENCE=${LEAKS_PATIENCE:-20}

leaks_links() { ip -o link show | sed -E 's/^[0-9]+: //; s/ (qlen|state|mode) [^ ]+//g; s/ <[^>]*>//'; }
leaks_addresses() { ip -o addr show | sed -E 's/^[0-9]+: //; s/valid_lft.*//'; }
# The kernel adds a bridge's multicast route when its first port comes up, and marks routes whose link has no carrier.
leaks_routes() {
  ip route show table all | sed 's/ linkdown//' | grep -v '^multicast ff00::/8 dev br-fc ' || true
  ip rule show
}
leaks_namespaces() { ip netns list; }
leaks_forwarding() { sysctl net.ipv4.ip_forward net.ipv4.conf.all.forwarding; }
# A device-mapper name and its table: a snapshot that only changed its origin differs too.
leaks_dm() { dmsetup table 2>/dev/null | grep -v '^No devices found' || true; }
# The file's name without its directory: the kernel tells it as whoever attached it saw it, and no more once they are gone.
leaks_loops() { losetup --list --noheadings --output NAME,BACK-FILE | sed -E 's#( +)[^ ]*/#\1#'; }
leaks_rules() { nft --stateless list ruleset; }
leaks_mounts() { findmnt --raw --noheadings --output TARGET,SOURCE,FSTYPE | grep -v '^/run/user/' || true; }
# The look's own session, and managers of sessions that end by and by.
leaks_cgroups() { find /sys/fs/cgroup -type d | grep -v -E '/user\.slice/user-[0-9]+\.slice' || true; }
leaks_units() {
  systemctl list-units --all --no-legend --plain --type=service,scope,slice,socket,mount |
    awk '$3 == "active" || $3 == "failed" { print $1, $3 }' |
    grep -v -E '^(session-|user-|user@|run-user-|systemd-(hostnamed|localed|timedated)|modprobe@)' || true
}
leaks_sockets() { find /run /srv /var/lib /var/tmp /tmp -type s 2>/dev/null | grep -v -E '^/run/(user|systemd|udev)/' || true; }
leaks_resolver() { resolvectl domain 2>/dev/null | sed -E 's/^Link [0-9]+ /Link /' || true; }
# Without the session of the look itself, whose subshells come and go: a process that a scenario leaves is in another,
# since the runner gives each command its own.
leaks_processes() {
  local mine
  mine=$(ps -o sess= -p $$)
  # ppid 2: kernel threads.
  ps -eo pid=,ppid=,sess=,user:16=,args= |
    awk -v mine="$mine" '$1 != 2 && $2 != 2 && $3 != mine + 0 { $1 = $2 = $3 = ""; print }' |
    grep -v -E 'sshd: |sshd -D -R|\[sshd\]|systemd --user|\(sd-pam\)|udevd|udev-worker|systemd-(hostnam|timedat|locale)ed' |
    grep -v -E 'dbus-daemon --session' || true
}

leaks_kinds=(links addresses routes namespaces forwarding dm loops rules mounts cgroups units sockets resolver processes)

leaks_observe() {
  local kind
  mkdir -p "$1"
  for kind in "${leaks_kinds[@]}"; do
    "leaks_$kind" | LC_ALL=C sort >"$1/$kind"
  done
}

leaks_remember() {
  rm -rf "${LEAKS_DIRECTORY:?}/$1"
  leaks_observe "$LEAKS_DIRECTORY/$1"
}

leaks_keep() {
  [ -d "$LEAKS_DIRECTORY/$1" ] || leaks_remember "$1"
}

leaks_compare() {
  local before=$LEAKS_DIRECTORY/$1 now=$LEAKS_DIRECTORY/$1.now give_up
  if [ ! -d "$before" ]; then
    echo "leaks: nothing was remembered as $1" >&2
    return 1
  fi
  # What is on its way out may go: the kernel frees a loop device, systemd an empty cgroup, a moment later.
  give_up=$((SECONDS + LEAKS_PATIENCE))
  while :; do
    leaks_observe "$now"
    diff -r "$before" "$now" >"$now.diff" && return 0
    [ "$SECONDS" -lt "$give_up" ] || break
    sleep 0.5
  done
  echo "leaks: the host is not as it was (< before, > now):" >&2
  sed -E "s|^diff -r $before/([a-z]+) .*|\1:|" "$now.diff" >&2
  return 1
}
