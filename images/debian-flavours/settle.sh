#!/bin/sh
# mmdebstrap's customize hook after images/debian/settle.sh, for flavours: makes of the standard base what the words in
# PIBAKE_FLAVOUR say (packages.txt explains them).
set -eu
root=$1
is() {
    case " $PIBAKE_FLAVOUR " in *" $1 "*) ;; *) return 1 ;; esac
}

if is netplan; then
    # nobody enables it where it is no package of its own
    systemctl --root="$root" --quiet enable systemd-resolved.service
else
    # a file that programs and people write, not systemd-resolved's
    rm "$root/etc/resolv.conf"
    : > "$root/etc/resolv.conf"
fi
if is network-manager; then
    # NetworkManager asks for it over D-Bus, by a name that it has only while it is enabled
    systemctl --root="$root" --quiet enable wpa_supplicant.service
fi
if is no-cloud-init; then
    rm -rf "$root/etc/cloud" "$root/etc/systemd/system/cloud-init-local.service.d" "$root/var/lib/cloud"
    if is ifupdown; then
        # the Debian Raspberry Pi team's images come with such a file
        mkdir -p "$root/etc/network/interfaces.d"
        printf 'auto eth0\niface eth0 inet dhcp\n' > "$root/etc/network/interfaces.d/eth0"
    fi
fi
