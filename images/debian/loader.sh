#!/bin/sh
# Gives lent amd64 programs their loader, whose path is fixed in every one of them, and their libraries, in a folder
# that no arm64 package uses. Run once more as an essential hook: bookworm's usr-is-merged takes /lib64 away.
set -eu
root=$1
[ -d "$root/.pibake/native/usr" ] || exit 0
mkdir -p "$root/usr/lib64"
ln -sfn usr/lib64 "$root/lib64"
ln -sfn /.pibake/native/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$root/usr/lib64/ld-linux-x86-64.so.2"
ln -sfn /.pibake/native/usr/lib/x86_64-linux-gnu "$root/usr/lib/x86_64-linux-gnu"
