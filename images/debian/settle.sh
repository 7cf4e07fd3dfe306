#!/bin/sh
# mmdebstrap's first customize hook: every package is configured. Makes the initrd, gives back what was lent, and
# takes out what differs from build to build or must differ from node to node.
set -eu
root=$1
kit=$root/.pibake
# once more, where packages made the same files
cp -a "$kit/root/." "$root/"
chmod 600 "$root/etc/iscsi/initiatorname.iscsi"

# prints the amd64 programs among the files named on standard input, each ended by a NUL (elf(5): e_machine 62)
amd64='for (<STDIN>) { chomp; open F, "<", $_ or next; read F, $_h, 20; print "$_\n" if $_h =~ /^\x7fELF.{14}\x3e\0/s }'

echo "pibake: making the initrd"
if [ -d "$kit/tools" ]; then
    # mkinitramfs sets its own PATH and then reads this folder. What it copies it names by path or finds below
    # /usr/lib, so the initrd gets arm64 files while native programs do the work: their libraries go out of sight,
    # and a hook that runs last looks at what was copied
    conf=$root/usr/share/initramfs-tools/conf-hooks.d/pibake-lent
    hook=$root/etc/initramfs-tools/hooks/pibake-lent
    rm "$root/usr/lib/x86_64-linux-gnu"
    echo 'PATH=/.pibake/tools:$PATH' > "$conf"
    cat > "$hook" << END
#!/bin/sh
[ "\$1" != prereqs ] || exit 0
found=\$(find "\$DESTDIR" -type f -print0 | perl -0 -e '$amd64')
[ -z "\$found" ] || { echo "settle.sh: amd64 programs in the initrd: \$found" >&2; exit 1; }
END
    chmod 755 "$hook"
    libraries=/.pibake/native/usr/lib/x86_64-linux-gnu
fi
for modules in "$root"/usr/lib/modules/*; do
    LD_LIBRARY_PATH=${libraries-} PERL5LIB=${libraries:+$libraries/perl-base} PATH=/.pibake/tools:/usr/sbin:/usr/bin:/sbin:/bin PIBAKE_BUILD=1 \
        chroot "$root" /usr/sbin/update-initramfs -c -k "${modules##*/}"
done
rm -f "${conf-}" "${hook-}"

echo "pibake: settling the tree"
if [ -d "$kit/tools" ]; then
    while read -r path; do
        mv "$root$path.pibake-arm64" "$root$path"
    done < "$kit/stand-ins"
    sed -i -e '/^\/.*[^.]$/{N;/\.pibake-arm64$/{N;d}}' "$root/var/lib/dpkg/diversions"
    rm "$root/lib64" "$root/usr/lib64/ld-linux-x86-64.so.2"
    rmdir "$root/usr/lib64"
fi

# the profiles of desktop programs that apparmor brings, most of them empty: a hundred to compile at the first boot.
# dpkg takes them for removed by the administrator, and upgrades leave it at that.
find "$root/etc/apparmor.d" -maxdepth 1 -type f ! -name lsb_release ! -name unix-chkpwd -delete

# identity: each node makes or gets its own
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed" \
    "$root/etc/.resolv.conf.systemd-resolved.bak" "$root/etc/.pwd.lock"
: > "$root/etc/machine-id"
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
echo debian > "$root/etc/hostname"

# the seed lies in the boot partition: where cloud-init looks for one first, and on a netbooted node as well
# (a file system label of our own, as on Ubuntu's image, is deprecated since cloud-init 24.3)
mkdir -p "$root/var/lib/cloud/seed"
ln -s /boot/firmware "$root/var/lib/cloud/seed/nocloud"

sed -e '/^#/d' "$kit/disabled-units.txt" | while read -r unit _; do
    systemctl --root="$root" --quiet disable "$unit"
done

# traces of the build
rm -rf "$root"/usr/bin/qemu-*-static "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/apt/* "$root"/var/cache/ldconfig/aux-cache \
    "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/tmp/* "$root"/var/tmp/* "$root"/root/.cache \
    "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/apt/apt.conf.d/00mmdebstrap"
mkdir -p "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial"
find "$root/var/log" -type f -delete
for file in passwd group shadow gshadow subuid subgid; do
    rm -f "$root/etc/$file-"
done
# documents of the essential packages were unpacked before dpkg knew which to leave out
find "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/info" ! -type d ! -name copyright -delete
find "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/info" -mindepth 1 -type d -empty -delete
find "$root/usr/share/locale" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +

# systemd never starts with a clock before this file's time
touch -d "@$SOURCE_DATE_EPOCH" "$root/usr/lib/clock-epoch"

found=$(find "$root" -xdev -path "$kit" -prune -o -name '*pibake-arm64*' -print)
found=$found$(find "$root" -xdev -path "$kit" -prune -o -type f -print0 | perl -0 -e "$amd64")
[ -z "$found" ] || { echo "settle.sh: lent and not given back: $found" >&2; exit 1; }

# hand the boot partition and the list of packages to the outside
mkdir -p "$kit/out"
dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Package}\t${Version}\t${Architecture}\n' > "$kit/out/packages.tsv"
mv "$root/boot/firmware" "$kit/out/firmware"
mkdir "$root/boot/firmware"
for file in vmlinuz initrd.img config.txt cmdline.txt start4.elf bcm2711-rpi-4-b.dtb; do
    [ -s "$kit/out/firmware/$file" ] || { echo "settle.sh: the boot partition has no $file" >&2; exit 1; }
done
