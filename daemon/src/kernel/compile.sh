# Compiles a kernel in a bootstrapped root ($1) that has its source and a compiler: as (the namespace's) root, with
# nothing of the host but its processors. The line above this file sets `config`: settings, all others are off.
# Leaves in the root: /banger/kernel (ELF), /banger/release, /banger/version.
set -eu
root=$1
mkdir "$root/banger"
printf '%s\n' "$config" >"$root/banger/config"
cat >"$root/banger/compile" <<'INSIDE'
set -eu
cd /banger
archive=$(ls /usr/src/linux-source-*.tar.*)
package=$(basename "$archive" | sed 's/\.tar\..*//')
echo "I: unpacking the kernel's source"
mkdir linux
tar --extract --file "$archive" --directory linux --strip-components=1
cd linux
make KCONFIG_ALLCONFIG=/banger/config allnoconfig >/dev/null
lost=
while read -r setting; do
	case $setting in
	*=n) ! grep -q "^${setting%n}" .config || lost="$lost $setting" ;;
	*) grep -qxF "$setting" .config || lost="$lost $setting" ;;
	esac
done </banger/config
if [ -n "$lost" ]; then
	# Another one is needed for them first, or this version has no such thing.
	echo "E: this kernel does not take$lost"
	exit 1
fi
# The same package, settings and compiler give the same bytes.
export KBUILD_BUILD_USER=banger KBUILD_BUILD_HOST=banger
KBUILD_BUILD_TIMESTAMP=$(date --utc --date "@$(stat --format %Y "$archive")")
export KBUILD_BUILD_TIMESTAMP
echo "I: compiling the kernel"
nice make --jobs="$(nproc)" vmlinux
strip --strip-all -o /banger/kernel vmlinux
make --silent kernelrelease >/banger/release
dpkg-query --show --showformat '${Version}\n' "$package" >/banger/version
INSIDE
chroot "$root" sh /banger/compile >&2
rm -rf "$root/banger/linux" "$root/usr/src"
