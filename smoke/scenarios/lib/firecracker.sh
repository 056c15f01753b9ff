# shellcheck shell=bash disable=SC2154 # scratch comes from check.sh
# A microVM by Firecracker alone, without banger: what everything of banger's is compared with. Source check.sh first.

# raw_initrd FILE INIT: banger's modules for Firecracker, one static program, and INIT (a file) as /init.
raw_initrd() {
  local tree=$scratch/initrd-tree
  rm -rf "$tree"
  mkdir -p "$tree/bin" "$tree/dev" "$tree/proc"
  cp /bin/busybox "$tree/bin/busybox"
  install -m 0755 "$2" "$tree/init"
  # The kernel unpacks one archive after the other.
  cp "$SMOKE_KERNEL/modules.cpio" "$1"
  (cd "$tree" && find . | cpio --quiet -o -H newc) >>"$1"
}

# raw_config FILE INITRD DISK: one CPU, 256 MiB, DISK as /dev/vda, console on standard output.
raw_config() {
  jq -n --arg kernel "${raw_kernel:-$SMOKE_KERNEL/vmlinux}" --arg initrd "$2" --arg disk "$3" '{
    "boot-source": {
      kernel_image_path: $kernel, initrd_path: $initrd,
      boot_args: "console=ttyS0 reboot=k panic=-1 quiet"
    },
    drives: [{drive_id: "disk", path_on_host: $disk, is_root_device: false, is_read_only: false}],
    "machine-config": {vcpu_count: 1, mem_size_mib: 256}
  }' >"$1"
}

# raw_init FILE MARKER [SECONDS]: says MARKER and what the disk begins with, writes to the disk, stays, ends the machine.
raw_init() {
  cat >"$1" <<INIT
#!/bin/busybox sh
b=/bin/busybox
\$b echo "$2 kernel=\$(\$b uname -r)"
\$b mount -t devtmpfs dev /dev
\$b mount -t proc proc /proc
\$b cat /modules/order.firecracker /modules/order | while read -r module; do \$b insmod /modules/\$module; done
\$b echo "$2 disk=\$(\$b head -n 1 /dev/vda)"
\$b echo "written by the guest" | \$b dd of=/dev/vda bs=512 seek=1 conv=fsync 2>/dev/null
\$b echo "$2 up=\$(\$b cut -d' ' -f1 /proc/uptime)"
\$b sync
\$b sleep ${3:-0}
\$b reboot -f
INIT
}
