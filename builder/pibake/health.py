"""Judges a node's own report against what its manifest says it should be. Values in, values out."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake.progress import size
from pibake.seed import CGROUP_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was seen, and what is wrong with it (nothing, if it is well)."""

    name: str
    seen: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem


def judge(report: Mapping[str, Any], manifest: Mapping[str, Any], *, disk_bytes: int) -> list[Check]:
    """Check a report (see `cloud-init/report/report.py`) of a node that has booted on a disk of `disk_bytes`."""
    node = manifest["node"]
    return [
        _equal("hostname", report["hostname"], node["hostname"]),
        _equal("full name", report["fqdn"], node["fqdn"]),
        *_network(report, node),
        _hosts(report, manifest["hosts"]),
        *_users(report, manifest),
        _cgroups(report),
        _cmdline(report),
        _equal("time zone", report["timezone"], node["timezone"]),
        _equal("systemd", report["system"], "running"),
        _none("failed units", [f"{unit}: {log.strip()}" for unit, log in report["failed_units"].items()]),
        *_seed(report, manifest),
        *_host_key(report["host_keys"], manifest.get("host_key")),
        *(_disk(disk, report.get("disks", [])) for disk in node.get("disks", [])),
        _join(report["join"], node.get("member")),
        _clock(report["clock"], manifest["source_date_epoch"]),
        _growth(report["root_bytes"], disk_bytes),
    ]


def fingerprint(key: str) -> str:
    """Return the SHA256 fingerprint of a public key line, as `ssh-keygen -l` prints it."""
    blob = base64.b64decode(key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _equal(name: str, seen: str, expected: str) -> Check:
    return Check(name, seen, "" if seen == expected else f"expected {expected}")


def _none(name: str, found: list[str]) -> Check:
    return Check(name, f"{len(found)}" if found else "none", "\n".join(found))


def _network(report: Mapping[str, Any], node: Mapping[str, Any]) -> list[Check]:
    have = {address: link for link, addresses in report["addresses"].items() for address in addresses}
    seen = ", ".join(f"{address} on {link}" for address, link in have.items()) or "none"
    gateways = [route["via"] for route in report["routes"] if route["to"] == "default" and route["via"]]
    checks = [Check("address", seen, "" if node["address"] in have else f"expected {node['address']}")]
    if address6 := node.get("address6"):
        checks.append(Check("IPv6 address", seen, "" if address6 in have else f"expected {address6}"))
    outer = (node.get("head") or {}).get("upstream", {})
    if outer.get("address", "dhcp") != "dhcp":
        checks.append(
            Check("address outside", seen, "" if outer["address"] in have else f"expected {outer['address']}")
        )
    if gateway := outer.get("gateway") or node["gateway"]:
        checks.append(_equal("default route", ", ".join(gateways) or "none", gateway))
    if outer.get("address") == "dhcp":
        # whoever gives the head its address says the rest, too
        return checks
    servers = ", ".join(report["dns"]["servers"])
    expected = ", ".join(outer.get("nameservers", node["nameservers"])) or "none"
    checks.append(_equal("name servers", servers or "none", expected))
    missing = [domain for domain in node["search"] if domain not in report["dns"]["search"]]
    search = ", ".join(report["dns"]["search"]) or "none"
    checks.append(Check("search domains", search, f"without {', '.join(missing)}" if missing else ""))
    return checks


def _hosts(report: Mapping[str, Any], hosts: list[Mapping[str, str]]) -> Check:
    # a name by multicast may stand behind the others
    known = {tuple(line.split()[:3]) for line in report["hosts"]}
    missing = [h["fqdn"] for h in hosts if (h["address"], h["fqdn"], h["hostname"]) not in known]
    return Check("/etc/hosts", f"{len(hosts) - len(missing)} of {len(hosts)} nodes", ", ".join(missing))


def _users(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[Check]:
    checks = []
    for user in manifest["node"]["users"]:
        name = user["name"]
        seen = report["users"].get(name)
        if seen is None:
            checks.append(Check(f"user {name}", "none", "the account does not exist"))
            continue
        expected = {fingerprint(key) for key in manifest["ssh_keys"][name]}
        problems = [f"key {key} is missing" for key in sorted(expected - set(seen["keys"]))]
        problems += [f"key {key} is not ours" for key in sorted(set(seen["keys"]) - expected)]
        if user["sudo"] and not seen["sudo"]:
            problems.append("may not use sudo")
        if seen["shell"] != user["shell"]:
            problems.append(f"has the shell {seen['shell']}")
        count = len(seen["keys"])
        checks.append(Check(f"user {name}", f"{count} key{'' if count == 1 else 's'}", "; ".join(problems)))
    return checks


def _cgroups(report: Mapping[str, Any]) -> Check:
    have = report["cgroup"]["controllers"]
    missing = [name for name in ("cpu", "cpuset", "memory", "pids") if name not in have]
    seen = f"v{report['cgroup']['version']}: {' '.join(have)}"
    return Check("cgroup controllers", seen, f"without {', '.join(missing)}" if missing else "")


def _cmdline(report: Mapping[str, Any]) -> Check:
    words = report["cmdline"].split()
    wrong = [flag for flag in CGROUP_FLAGS if words.count(flag) != 1]
    seen = " ".join(word for word in words if word in CGROUP_FLAGS)
    return Check("kernel flags", seen or "none", f"not exactly once: {', '.join(wrong)}" if wrong else "")


def _seed(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[Check]:
    """Judge what applied the seed; manifests from before there was a choice say nothing, and mean cloud-init."""
    if manifest.get("vehicle", "cloud-init") == "cloud-init":
        return _cloud_init(report["cloud_init"], manifest["instance_id"])
    return [_equal("seed", report["seed_id"] or "none", manifest["instance_id"])]


NO_DMI = "did not find either path /sys/class/dmi/id or dmidecode command"
"""What cloud-init 20.4 warns of on every board without the tables of a PC (dmi.py); later ones do not."""


def _cloud_init(state: Mapping[str, Any], instance_id: str) -> list[Check]:
    source = state["datasource"] or "none"
    warnings = [line for line in state["warnings"] if NO_DMI not in line]
    return [
        Check(
            "cloud-init",
            f"{state['version'] or 'not installed'}, {source}",
            "" if "NoCloud" in source else "it did not find the seed on the boot partition",
        ),
        _equal("instance-id", state["instance_id"], instance_id),
        _none("cloud-init errors", state["errors"]),
        _none("cloud-init warnings", warnings),
        # Deprecated is what will fail one day: shown, but no reason to call this card unwell.
        Check("deprecations", "; ".join(state["deprecations"]) or "none"),
    ]


def _host_key(seen: Mapping[str, str], issued: str | None) -> list[Check]:
    if issued is None:
        return []
    found = seen.get("ssh_host_ed25519_key.pub", "none")
    return [_equal("SSH host key", found, fingerprint(issued))]


def _join(state: Mapping[str, Any], member: Mapping[str, Any] | None) -> Check:
    """Judge where `pibake-join` is; alone in a test boot, a node that joins others waits for them."""
    if not state:
        return Check("first boot", "nothing", "pibake-join.service did not run")
    seen = f"{state['stage']} {state['status']}"
    alone = member is not None and (state["stage"], state["status"]) == ("endpoint", "wait")
    if alone or seen == "scrubbed ok":
        return Check("first boot", f"{seen}: {state['detail']}" if alone else seen)
    return Check("first boot", seen, state["detail"])


def _disk(disk: Mapping[str, Any], seen: list[Mapping[str, Any]]) -> Check:
    """Judge a data disk by what is mounted in its place; why nothing is, its own program says."""
    name = f"disk {disk['label']}"
    found = next((one for one in seen if one["mount"] == disk["mount"]), None)
    if found is None:
        return Check(name, "nothing", "pibake-disks.service did not run")
    if found["status"] != "ok" or "filesystem" not in found:
        return Check(name, found["status"], found["detail"])
    where = f"{found['filesystem']} on {found['source']} at {found['mount']}, {size(found['bytes'])}"
    same = found["filesystem"] == disk["filesystem"]
    return Check(name, where, "" if same else f"expected {disk['filesystem']}")


def _clock(clock: float, epoch: int) -> Check:
    behind = epoch - clock
    return Check(
        "clock",
        f"{clock - epoch:.0f} s past the seed",
        f"{behind:.0f} s before the seed" if behind > 0 else "",
    )


def _growth(root_bytes: int, disk_bytes: int) -> Check:
    # The boot partition, ext4's own tables and its reserve: a root that did not grow is far below this.
    enough = root_bytes > 0.85 * (disk_bytes - (600 << 20))
    return Check(
        "root file system",
        size(root_bytes),
        "" if enough else f"did not grow to the disk's {size(disk_bytes)}",
    )


def timings(report: Mapping[str, Any], show: Callable[[str, str], None]) -> None:
    """Show the boot's timings, name and value at a time."""
    times = report["timings"]
    for name, mark in (
        ("cloud-init done", "kernel_to_cloud_init_done"),
        ("system running", "kernel_to_system_running"),
    ):
        if times[mark] is not None:
            show(name, f"{times[mark]:.1f} s after the kernel started")
    for line in times["slowest_units"][:3]:
        duration, _, unit = line.strip().rpartition(" ")
        show("slow unit", f"{unit} took {duration}")
