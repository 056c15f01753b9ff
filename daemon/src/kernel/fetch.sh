# Runs inside mmdebstrap, with its apt configuration, after the suite's kmod has been unpacked into $1.
# Fetches one kernel package, unpacks it without installing it, and lets the suite's own depmod index the
# modules (the host need not have one; its loader and libraries are called by path, so no chroot is needed).
#   BANGER_PACKAGE  a kernel package, or one that depends on the newest of its kind
#   BANGER_OUTPUT   an empty directory; receives boot/ and lib/modules/<release>/
set -eu
root=$1
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
package=$(apt-cache depends --important "$BANGER_PACKAGE" |
	sed -n 's/^ *|\{0,1\}Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
package=${package:-$BANGER_PACKAGE}
mkdir "$root/banger"
cd "$root/banger"
apt-get download "$package" >&2
echo "I: unpacking the package" >&2
dpkg-deb --extract ./*.deb "$BANGER_OUTPUT"
apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p' | head -n 1 >"$BANGER_OUTPUT/version"
if [ -d "$BANGER_OUTPUT/usr/lib/modules" ]; then
	mkdir -p "$BANGER_OUTPUT/lib"
	mv "$BANGER_OUTPUT/usr/lib/modules" "$BANGER_OUTPUT/lib/modules"
fi
release=$(ls "$BANGER_OUTPUT/lib/modules")
libraries=$(find "$root/lib" "$root/usr/lib" -maxdepth 1 -name '*-linux-gnu' | tr '\n' ':')
echo "I: indexing the modules" >&2
"$root/lib64/ld-linux-x86-64.so.2" --argv0 depmod --library-path "$libraries" "$root/bin/kmod" \
	-b "$BANGER_OUTPUT" -F "$BANGER_OUTPUT/boot/System.map-$release" "$release" >&2
