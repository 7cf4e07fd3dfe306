#!/bin/sh
# Run a command beside a system bus, polkitd and udisksd of its own; what they see of the system is their own, too.
# Usage: unshare --mount --pid --fork --mount-proc --kill-child sh with_udisks.sh FOLDER DEVICE YES|NO COMMAND...
# FOLDER: for the bus's socket and logs. DEVICE: the loop device that udev "knows". YES|NO: polkit's answer to everybody.
set -eu
folder=$1 device=$2 answer=$3
shift 3
export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$folder/bus"

cat > "$folder/bus.conf" <<END
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>$DBUS_SYSTEM_BUS_ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/><allow receive_sender="*"/>
  </policy>
</busconfig>
END

mount -t tmpfs tmpfs /etc/polkit-1
mkdir -p /etc/polkit-1/rules.d
chmod 755 /etc/polkit-1 /etc/polkit-1/rules.d
cat > /etc/polkit-1/rules.d/50-test.rules <<END
polkit.addRule(function (action, subject) { return polkit.Result.$answer; });
END

# udisksd takes devices from udev's database, and no udevd need run for that.
mount -t tmpfs tmpfs /run
mkdir -p /run/udev/data /run/udisks2
printf 'I:1000\nV:1\n' > "/run/udev/data/b$(cat "/sys/block/$(basename "$device")/dev")"

said() { # LOG TEXT: wait until it stands there
    tries=0
    until grep -q "$2" "$1" 2> /dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { cat "$1" >&2; exit 99; }
        sleep 0.1
    done
}
dbus-daemon --config-file="$folder/bus.conf" --nofork --print-address=3 3> "$folder/bus.log" &
said "$folder/bus.log" unix:
/usr/lib/polkit-1/polkitd > "$folder/polkit.log" 2>&1 &
said "$folder/polkit.log" 'Acquired the name'
/usr/libexec/udisks2/udisksd > "$folder/udisks.log" 2>&1 &
said "$folder/udisks.log" 'Acquired the name'
"$@"
