#!/bin/sh
# mmdebstrap's extract hook: the essential arm64 packages are unpacked, no maintainer script has run yet.
# Puts native programs where those scripts will find them, and stubs in place of work that is done once, at the
# end, by settle.sh. Everything lies in /.pibake or is undone by settle.sh.
set -eu
root=$1
kit=$root/.pibake

# update-initramfs would run twice under emulation; host keys must not exist in an image at all
for stub in update-initramfs ssh-keygen; do
    install -D -m 755 "$kit/stub" "$kit/first/$stub"
done

# Debian's hook writes config.txt and cmdline.txt anew on every kernel upgrade and would lose the seed's
# settings, so ours stands in its place; run-parts does not look at names with a dot
mkdir -p "$root/var/lib/dpkg"
for hook in kernel/postinst.d kernel/postrm.d initramfs/post-update.d; do
    printf '%s\n%s\n:\n' "/etc/$hook/z50-raspi-firmware" "/etc/$hook/z50-raspi-firmware.debian" \
        >> "$root/var/lib/dpkg/diversions"
    mkdir -p "$root/etc/$hook"
    ln -s /usr/lib/pibake/update-boot-partition "$root/etc/$hook/z50-raspi-firmware"
done
cp -a "$kit/root/." "$root/"

[ -d "$kit/native/usr" ] || exit 0

"$kit/loader.sh" "$root"

mkdir -p "$kit/tools"
sed -e '/^#/d' "$kit/lent.txt" | while read -r package commands; do
    for command in $commands; do
        for folder in bin sbin; do
            if [ -x "$kit/native/usr/$folder/$command" ] || [ -L "$kit/native/usr/$folder/$command" ]; then
                ln -sf "/.pibake/native/usr/$folder/$command" "$kit/tools/$command"
            fi
        done
        [ -L "$kit/tools/$command" ] || { echo "lend.sh: $package has no command $command" >&2; exit 1; }
    done
done
ln -s mawk "$kit/tools/awk"
# one program under many names; modprobe and depmod are links to it
for command in modprobe depmod; do
    ln -sf /.pibake/native/usr/bin/kmod "$kit/tools/$command"
done

# a diversion makes dpkg unpack the arm64 file beside the one that stands in for it
while read -r path; do
    printf '%s\n%s\n:\n' "$path" "$path.pibake-arm64" >> "$root/var/lib/dpkg/diversions"
    [ ! -e "$root$path" ] || mv "$root$path" "$root$path.pibake-arm64"
    mkdir -p "$root${path%/*}"
    cp "$kit/native$path" "$root$path"
done < "$kit/stand-ins"
