# shellcheck shell=bash
# An "internet" of one server in a network namespace. It knows no way back to guests: only what the host masquerades
# can talk to it. Source check.sh first; needs root.

internet_server=203.0.113.2
internet_port=8080

internet_up() {
  ip netns add internet
  at_end internet_down
  ip link add internet type veth peer name uplink netns internet
  ip addr add 203.0.113.1/24 dev internet
  ip link set internet up
  ip -n internet addr add "$internet_server/24" dev uplink
  ip -n internet link set uplink up
  ip -n internet link set lo up
  ip netns exec internet nc -lk "$internet_port" >/dev/null &
  internet_pid=$!
  eventually 10 "the internet answers the host" nc -z -w 1 "$internet_server" "$internet_port"
}
internet_down() {
  kill "$internet_pid" 2>/dev/null
  wait "$internet_pid" 2>/dev/null
  ip netns delete internet
  # ip mounts this directory for the first name and never unmounts it.
  umount /run/netns 2>/dev/null || true
  # Its end of the pair goes with the namespace, a moment later.
  ip link delete internet 2>/dev/null || true
}
