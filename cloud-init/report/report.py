"""Runs inside a test boot: waits for the boot to end, looks the node over, writes JSON lines to the host.

Delivered by `pibake boot` and by nothing else. Needs only the standard library of the guest's Python (3.6 on
Ubuntu 18.04), and no network. Each line is one object: {"progress": ...} while it waits, {"report": ...} at the end.
Arguments: seconds that the node may wait for others, and what applies its seed, `cloud-init` or `files`.
"""

import base64
import glob
import hashlib
import json
import os
import pwd
import socket
import subprocess
import sys
import time
import traceback

PORT = "/dev/virtio-ports/io.pibake.report"
STANDSTILL = 300  # seconds without a word from pibake-join
BOOT_LIMIT = 1800  # seconds; the host has a limit of its own, this one only ends a forgotten reporter


def output(*command):
    """Return what a command prints; a tool that is missing or fails leaves what it managed to say."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()


def parsed(*command):
    """Return the JSON a command prints, or None."""
    try:
        return json.loads(output(*command))
    except ValueError:
        return None


def content(path, default=""):
    """Return the text of a file that may not be there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return default


def uptime():
    return float(content("/proc/uptime", "0").split()[0])


def send(port, **message):
    port.write((json.dumps(message) + "\n").encode())
    port.flush()


def wait(port, vehicle):
    """Wait until systemd has nothing left to start, cloud-init included; tell the host how far it is."""
    marks = {}
    shown = None
    while "systemd" not in marks and uptime() < BOOT_LIMIT:
        state = output("systemctl", "is-system-running") or "unknown"
        if state in {"running", "degraded", "maintenance"}:
            marks["systemd"] = uptime()
        now = "systemd: %s" % state
        if vehicle == "cloud-init":
            status = content("/run/cloud-init/status.json")
            stage = (json.loads(status).get("v1") or {}).get("stage") if status else "cloud-init"
            finished = os.path.exists("/run/cloud-init/result.json")
            if finished:
                marks.setdefault("cloud_init", uptime())
            now += ", cloud-init: %s" % ("done" if finished else stage or "between stages")
        if now != shown:
            send(port, progress=now, uptime=uptime())
            shown = now
        time.sleep(0.5)
    wait_for_join(port, float(sys.argv[1]))
    return marks


def wait_for_join(port, patience):
    """Wait until the node has joined, or has stood still for too long: before a closed door, `patience`."""
    shown, since = None, uptime()
    while os.path.exists("/etc/pibake/node.json") and uptime() < BOOT_LIMIT:
        state = json.loads(content("/run/pibake/state.json") or "{}")
        stage, status = state.get("stage", "pibake-join"), state.get("status", "starts")
        if (stage, status) == ("scrubbed", "ok"):
            break
        now = "%s: %s" % (stage, state.get("detail") or status)
        if now != shown:
            send(port, progress=now, uptime=uptime())
            shown, since = now, uptime()
        if uptime() - since > (patience if stage == "endpoint" or status == "failed" else STANDSTILL):
            break
        time.sleep(0.5)


def addresses():
    """Return {interface: [address/prefix, ...]} without link-local ones and the loopback."""
    found = {}
    for link in parsed("ip", "-j", "address", "show") or []:
        usable = [a for a in link["addr_info"] if a.get("scope") == "global"]
        if usable:
            found[link["ifname"]] = ["%s/%d" % (a["local"], a["prefixlen"]) for a in usable]
    return found


def name_servers():
    """Return the name servers in use: systemd-resolved's upstream list where it runs, else resolv.conf's."""
    for path in ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"):
        lines = [line.split() for line in content(path).splitlines()]
        servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
        if servers:
            search = [word for words in lines if words and words[0] == "search" for word in words[1:]]
            return {"servers": servers, "search": search}
    return {"servers": [], "search": []}


def fingerprint(key):
    """Return the SHA256 fingerprint of a public key line, as ssh-keygen -l prints it."""
    blob = base64.b64decode(key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def users():
    """Return {name: {keys, groups, sudo, locked}} of people's accounts."""
    found = {}
    for entry in pwd.getpwall():
        if not 1000 <= entry.pw_uid < 60000:
            continue
        lines = content(os.path.join(entry.pw_dir, ".ssh/authorized_keys")).splitlines()
        shadow = [
            line.split(":")[1]
            for line in content("/etc/shadow").splitlines()
            if line.startswith(entry.pw_name + ":")
        ]
        found[entry.pw_name] = {
            "keys": [fingerprint(line) for line in lines if line.startswith(("ssh-", "ecdsa-", "sk-"))],
            "groups": output("id", "-nG", entry.pw_name).split(),
            "sudo": "NOPASSWD" in output("sudo", "-l", "-U", entry.pw_name),
            "locked": not shadow or shadow[0].startswith(("!", "*")),
            "shell": entry.pw_shell,
        }
    return found


def cgroup_controllers():
    """Return the controllers the kernel offers: cgroup v2's list, or v1's enabled ones (cgroups(7))."""
    unified = content("/sys/fs/cgroup/cgroup.controllers").split()
    if unified:
        return {"version": 2, "controllers": unified}
    rows = [line.split() for line in content("/proc/cgroups").splitlines() if not line.startswith("#")]
    return {"version": 1, "controllers": [row[0] for row in rows if row[3] == "1"]}


def cloud_init():
    """Return status, errors and warnings of every stage of this boot."""
    status = (json.loads(content("/run/cloud-init/status.json") or "{}")).get("v1", {})
    errors, warnings, deprecations = [], [], []
    for stage in status.values():
        if isinstance(stage, dict):
            errors += stage.get("errors") or []
            for level, lines in (stage.get("recoverable_errors") or {}).items():
                if level == "DEPRECATED":
                    deprecations += lines
                else:
                    warnings += lines
    # Before 23.4 cloud-init does not record warnings in its status, only in its log. The log goes on across
    # boots, so only what came after this boot's first line counts.
    log = content("/var/log/cloud-init.log").rpartition("running 'init-local'")[2]
    warnings += [line for line in log.splitlines() if "[WARNING]" in line or "[ERROR]" in line]
    result = json.loads(content("/run/cloud-init/result.json") or "{}").get("v1", {})
    return {
        "version": output("cloud-init", "--version").split(" ")[-1],
        "datasource": result.get("datasource") or status.get("datasource"),
        "instance_id": content("/var/lib/cloud/data/instance-id").strip(),
        "errors": errors,
        "warnings": sorted(set(warnings)),
        "deprecations": sorted(set(deprecations)),
    }


def failed_units():
    """Return {unit: its last log lines} of the units that failed."""
    listed = output(
        "systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"
    ).splitlines()
    names = [line.split()[0] for line in listed if line.strip()]
    return {
        name: output("journalctl", "-b", "-u", name, "-n", "5", "-o", "cat", "--no-pager") for name in names
    }


def digest(*folders):
    """Return a digest per file of whole folders: what a second boot must not change."""
    found = {}
    for folder in folders:
        for path, _, names in os.walk(folder):
            for name in names:
                full = os.path.join(path, name)
                data = os.readlink(full).encode() if os.path.islink(full) else open(full, "rb").read()
                found[full] = hashlib.sha256(data).hexdigest()[:16]
    return found


def disks():
    """Return what pibake-disks says of each data disk, with what the kernel says is mounted in its place."""
    found = json.loads(content("/run/pibake/disks.json") or "{}").get("disks", [])
    mounts = [line.split()[:3] for line in content("/proc/mounts").splitlines()]
    for disk in found:
        for source, place, kind in mounts:
            if place == disk["mount"]:
                size = os.statvfs(place)
                disk.update(source=source, filesystem=kind, bytes=size.f_blocks * size.f_frsize)
    return found


def report(marks, vehicle):
    root = os.statvfs("/")
    return {
        "hostname": socket.gethostname(),
        "fqdn": output("hostname", "-f"),
        "addresses": addresses(),
        "routes": [
            {"to": r["dst"], "via": r.get("gateway"), "dev": r["dev"]}
            for r in parsed("ip", "-j", "route") or []
        ],
        "dns": name_servers(),
        "hosts": [line for line in content("/etc/hosts").splitlines() if line and not line.startswith("#")],
        "users": users(),
        "host_keys": {
            os.path.basename(path): fingerprint(content(path))
            for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub"))
        },
        "cgroup": cgroup_controllers(),
        "cmdline": content("/proc/cmdline").strip(),
        "system": output("systemctl", "is-system-running"),
        "failed_units": failed_units(),
        "cloud_init": cloud_init() if vehicle == "cloud-init" else None,
        "seed_id": content("/var/lib/pibake/seed-id").strip(),
        "join": json.loads(content("/run/pibake/state.json") or "{}"),
        "disks": disks(),
        "clock": time.time(),
        "timezone": os.path.realpath("/etc/localtime").rpartition("zoneinfo/")[2],
        "locale": content("/etc/default/locale").strip(),
        "root_bytes": root.f_blocks * root.f_frsize,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "os": dict(
            line.replace('"', "").split("=", 1)
            for line in content("/etc/os-release").splitlines()
            if "=" in line
        ).get("PRETTY_NAME"),
        "kernel": os.uname().release,
        "timings": {
            "kernel_to_cloud_init_done": marks.get("cloud_init"),
            "kernel_to_system_running": marks.get("systemd"),
            "systemd_analyze": output("systemd-analyze", "time"),
            "slowest_units": output("systemd-analyze", "blame", "--no-pager").splitlines()[:8],
        },
        "files": digest("/etc"),
    }


with open(PORT, "wb") as port:
    try:
        send(port, report=report(wait(port, sys.argv[2]), sys.argv[2]))
    except Exception:
        send(port, failed=traceback.format_exc())
        raise
