#!/bin/sh
# mmdebstrap's last customize hook: writes the tree into the root partition. It runs here because only here, in
# the build's user namespace, do files show their real owners. Arguments come from the environment:
# PIBAKE_IMAGE (path), PIBAKE_ASIDE (a folder on the tree's file system), PIBAKE_OFFSET (bytes), PIBAKE_BLOCKS (of
# 4096), PIBAKE_UUID, SOURCE_DATE_EPOCH.
set -eu
root=$1
kit=$root/.pibake
outside=$(mktemp -d "$PIBAKE_ASIDE/XXXXXX")
trap 'umount -R "$outside/tree"; rm -rf "$outside"' EXIT
mv "$kit" "$outside/kit"
kit=$outside/kit

# the tree without what is mounted in it (mmdebstrap's /proc, /sys and /dev), and nothing in folders that are
# mounted over at boot
mkdir "$outside/tree"
mount --bind "$root" "$outside/tree"
root=$outside/tree
for folder in dev run; do
    mkdir -m 755 "$outside/$folder"
    touch -d "@$SOURCE_DATE_EPOCH" "$outside/$folder"
    mount --bind "$outside/$folder" "$root/$folder"
done

# what the build wrote gets the build's date; what packages brought keeps its own
# (.pyc files remember the time of their .py)
find "$root" -newer "$kit/started" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

# caches that systemd would otherwise renew at the first boot (ConditionNeedsUpdate=) are up to date
for folder in etc var; do
    echo "# pibake: caches made from /usr are up to date; see systemd-update-done(8)" > "$root/$folder/.updated"
    touch -r "$root/usr" "$root/$folder/.updated"
    touch -d "@$SOURCE_DATE_EPOCH" "$root/$folder"
done

mke2fs=mke2fs
if [ -x "$kit/native/usr/sbin/mke2fs" ]; then
    # the suite's own, so that the bytes do not depend on the host's version
    libraries=$kit/native/usr/lib/x86_64-linux-gnu
    mke2fs="$libraries/ld-linux-x86-64.so.2 --library-path $libraries $kit/native/usr/sbin/mke2fs"
fi
echo "pibake: writing the root file system"
# shellcheck disable=SC2086
MKE2FS_CONFIG=$kit/mke2fs.conf E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH \
    $mke2fs -q -F -t ext4 -b 4096 -L writable -U "$PIBAKE_UUID" \
    -E "hash_seed=$PIBAKE_UUID,offset=$PIBAKE_OFFSET,lazy_itable_init=1,root_owner=0:0" \
    -d "$root" "$PIBAKE_IMAGE" "$PIBAKE_BLOCKS"
