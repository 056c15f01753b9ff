# shellcheck shell=bash disable=SC2154,SC2034 # scratch comes from check.sh; ids are for the scenarios
# bangerd-root alone, without bangerd: installed by hand, driven by banger-boundary in the owner's name.
# Source check.sh and firecracker.sh first. For the host stage: banger is not installed yet.

helper_programs=/usr/local/lib/banger
helper_state=/var/lib/banger-root
helper_image=small@00000000000000000000000000000001
helper_kernel=$(basename "${SMOKE_KERNEL:-none}")
helper_unit=bangerd-root.service

helper_vm_a=aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa
helper_vm_b=bbbbbbbbbbbb4bbb8bbbbbbbbbbbbbbb

as_owner() { runuser -u "$SMOKE_OWNER" -- "$@"; }
# A request in the owner's name: prints the answer as JSON, exits with the status of its kind.
helper() { as_owner "$SMOKE/bin/banger-boundary" "$@"; }
helper_pid() { systemctl show --property MainPID --value "$helper_unit"; }

# Programs, metadata, the owner's store with a small image and the kernel. Taken away again at the scenario's end.
helper_install() {
  local uid gid
  [ ! -e /etc/banger ] || fail "banger is installed already"
  uid=$(id -u "$SMOKE_OWNER")
  gid=$(id -g "$SMOKE_OWNER")
  at_end helper_uninstall
  install -d -m 0755 "$helper_programs" /etc/banger
  install -m 0755 "$SMOKE/bin/bangerd-root" "$SMOKE/bin/firecracker" "$SMOKE/bin/jailer" "$helper_programs"
  cat >/etc/banger/install.toml <<METADATA
[owner]
name = "$SMOKE_OWNER"
uid = $uid
gid = $gid
home = "/home/$SMOKE_OWNER"
[build]
version = "0"
commit = "0"
installed_unix_s = 0
updated_unix_s = 0
[network]
bridge = "br-fc"
subnet = "172.16.0.0/24"
METADATA
  install -d -m 0700 -o "$uid" -g "$gid" /var/lib/banger /var/lib/banger/{images,kernels,vms} \
    "/var/lib/banger/images/$helper_image"
  cp -R "$SMOKE_KERNEL" /var/lib/banger/kernels/
  truncate -s 16M "/var/lib/banger/images/$helper_image/rootfs.ext4"
  echo the-image | dd of="/var/lib/banger/images/$helper_image/rootfs.ext4" conv=notrunc status=none
  chown -R "$uid:$gid" /var/lib/banger
  # As an installation has it; teardown-all takes it away.
  systemctl start banger.slice
}

helper_uninstall() {
  helper_last_words
  helper_stop
  [ ! -x "$helper_programs/bangerd-root" ] || "$helper_programs/bangerd-root" teardown-all
  rm -rf /etc/banger "$helper_programs" /var/lib/banger "$helper_state" /run/banger-root
}

# Of a guest that died: the runner looks for it, as under emulation that is no fault of what was to be shown. What a
# scenario that failed saw last of each guest is worth reading in any case.
helper_last_words() {
  local console vm
  for console in /var/lib/banger/vms/*/console.log; do
    [ -e "$console" ] || continue
    vm=$(basename "$(dirname "$console")")
    grep -aF -m 1 'Kernel panic' "$console" | sed "s/^/guest died: $vm: /" || true
    [ "${scenario_status:-0}" -eq 0 ] || tail -n 15 "$console" | tr -d '\r' | sed "s/^/console of ${vm:0:4}: /"
  done
}

# With what it needs and nothing else (docs/decisions/0005-what-only-root-can-do.md).
helper_start() { helper_start_with; }
# Arguments are more properties.
helper_start_with() {
  local property properties=("${@/#/--property=}")
  while read -r property; do
    properties+=(--property "$property")
  done <<'PROPERTIES'
Type=notify
LogRateLimitIntervalSec=0
CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_CHOWN CAP_KILL
NoNewPrivileges=yes
UMask=0077
RuntimeDirectory=banger-root
RuntimeDirectoryMode=0711
StateDirectory=banger-root
StateDirectoryMode=0711
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_NETLINK
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=@chown
SystemCallErrorNumber=EPERM
IPAddressDeny=any
ProtectKernelTunables=yes
ReadWritePaths=/proc/sys/net/ipv4/ip_forward
DevicePolicy=closed
DeviceAllow=/dev/mapper/control rw
DeviceAllow=/dev/loop-control rw
DeviceAllow=block-loop rw
DeviceAllow=/dev/net/tun rw
PROPERTIES
  modprobe -a loop dm_snapshot tun
  systemd-run --quiet --collect --unit "$helper_unit" "${properties[@]}" "$helper_programs/bangerd-root" serve
}

# The helper dies without a word, and another one starts.
helper_kill() {
  local pid
  pid=$(helper_pid)
  [ "$pid" = 0 ] || kill -9 "$pid"
}
helper_restart() {
  eventually 20 "the end of the helper" helper_is_gone
  systemctl reset-failed "$helper_unit" 2>/dev/null || true
  eventually 20 "the end of its unit" helper_has_no_unit
  helper_start
}
helper_is_gone() { [ "$(helper_pid)" = 0 ]; }
helper_has_no_unit() { ! systemctl list-units --all --plain --no-legend "$helper_unit" | grep -q .; }

# What exists of any VM, one line each; the ledger's word for it does not count.
helper_traces() {
  ip -o link show | grep -o 'fc-[0-9a-f]*' || true
  dmsetup ls | grep fc-rootfs || true
  losetup --list --noheadings --output BACK-FILE | grep -E '/var/lib/banger' || true
  find "$helper_state"/cow "$helper_state"/jail/firecracker -mindepth 1 -maxdepth 1
  find "$helper_state"/ledger -name '*.json' ! -name network.json
  systemctl list-units --all --plain --no-legend 'banger-vm-*' || true
  pgrep -a firecracker || true
}
helper_has_no_traces() { [ -z "$(helper_traces)" ]; }

helper_stop() { systemctl stop "$helper_unit" 2>/dev/null || true; }

# helper_files VM: what bangerd would have put into the VM's directory.
helper_files() {
  local directory=/var/lib/banger/vms/$1
  raw_init "$scratch/init" "hello-from-$1" "${2:-600}"
  raw_initrd "$scratch/initrd" "$scratch/init"
  as_owner install -d -m 0700 "$directory"
  as_owner truncate -s 8M "$directory/work.ext4"
  as_owner touch "$directory/metrics.json"
  install -m 0600 -o "$SMOKE_OWNER" -g "$(id -g "$SMOKE_OWNER")" "$scratch/initrd" "$directory/initrd.cpio"
}

# helper_launch VM ADDRESS: everything up to a machine monitor that waits for its orders.
helper_launch() {
  helper ensure-network >/dev/null
  helper attach-link "$1" "$2" >/dev/null
  helper create-root-disk "$1" "$helper_image" 64 >/dev/null
  helper launch-vm "$1" "$helper_kernel" 1 256
}

helper_socket() { echo "$helper_state/jail/firecracker/$1/root/run/firecracker.socket"; }
# helper_api VM PATH JSON: one call of Firecracker's API, as the owner.
helper_api() {
  as_owner curl --silent --show-error --fail-with-body --unix-socket "$(helper_socket "$1")" \
    -X PUT "http://localhost$2" -H 'Content-Type: application/json' -d "$3"
}

# helper_boot VM: what bangerd would tell the machine monitor.
helper_boot() {
  local tap mac
  tap=$(tap_of "$2")
  mac=$(printf '02:fc:%02x:%02x:%02x:%02x' "$(cut -d. -f1 <<<"$2")" "$(cut -d. -f2 <<<"$2")" \
    "$(cut -d. -f3 <<<"$2")" "$(cut -d. -f4 <<<"$2")")
  helper_api "$1" /boot-source \
    '{"kernel_image_path": "/vmlinux", "initrd_path": "/initrd", "boot_args": "console=ttyS0 reboot=k panic=-1 quiet"}'
  helper_api "$1" /drives/root \
    '{"drive_id": "root", "path_on_host": "/rootfs", "is_root_device": false, "is_read_only": false}'
  helper_api "$1" /drives/modules \
    '{"drive_id": "modules", "path_on_host": "/modules.ext4", "is_root_device": false, "is_read_only": true}'
  helper_api "$1" /drives/work \
    '{"drive_id": "work", "path_on_host": "/work.ext4", "is_root_device": false, "is_read_only": false}'
  helper_api "$1" /network-interfaces/eth0 \
    "{\"iface_id\": \"eth0\", \"host_dev_name\": \"$tap\", \"guest_mac\": \"$mac\"}"
  helper_api "$1" /machine-config '{"vcpu_count": 1, "mem_size_mib": 256}'
  helper_api "$1" /vsock '{"guest_cid": 3, "uds_path": "/vsock.sock"}'
  helper_api "$1" /actions '{"action_type": "InstanceStart"}'
}

helper_console() { cat "/var/lib/banger/vms/$1/console.log"; }
