# shellcheck shell=bash
# A network apart from the host's. It has no name: naming one would leave a mount. Source check.sh first; needs root.

apart_up() {
  unshare --net sleep infinity &
  apart_pid=$!
  at_end kill "$apart_pid"
  eventually 10 "a network of its own" is_apart
}
apart() { nsenter --target "$apart_pid" --net "$@"; }
is_apart() { [ "$(readlink "/proc/$apart_pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
