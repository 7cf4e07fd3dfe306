from __future__ import annotations

import copy
from typing import Any

import pytest

from pibake.health import fingerprint, judge, timings

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
FLAGS = "cgroup_enable=cpuset cgroup_memory=1 cgroup_enable=memory"
DISK = 8 << 30
MANIFEST: dict[str, Any] = {
    "node": {
        "hostname": "node3", "fqdn": "node3.lab.example", "address": "10.0.0.3/24", "gateway": "10.0.0.1",
        "nameservers": ["10.0.0.1"], "search": ["lab.example"], "timezone": "Etc/UTC",
        "users": [{"name": "ops", "sudo": True, "shell": "/bin/bash"}],
    },
    "hosts": [{"address": "10.0.0.3", "fqdn": "node3.lab.example", "hostname": "node3"}],
    "ssh_keys": {"ops": [KEY]},
    "instance_id": "pibake-1",
    "source_date_epoch": 1000,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "hostname": "node3", "fqdn": "node3.lab.example", "addresses": {"eth0": ["10.0.0.3/24"]},
    "routes": [{"to": "default", "via": "10.0.0.1", "dev": "eth0"}],
    "dns": {"servers": ["10.0.0.1"], "search": ["lab.example"]},
    "hosts": ["10.0.0.3 node3.lab.example node3"],
    "users": {"ops": {"keys": [fingerprint(KEY)], "sudo": True, "shell": "/bin/bash"}},
    "cgroup": {"version": 2, "controllers": ["cpuset", "cpu", "memory", "pids"]},
    "cmdline": f"root=LABEL=writable {FLAGS}", "timezone": "Etc/UTC", "system": "running", "failed_units": {},
    "cloud_init": {"version": "25.1", "datasource": "DataSourceNoCloud [seed=x]", "instance_id": "pibake-1",
                   "errors": [], "warnings": [], "deprecations": ["old"]}, "seed_id": "",
    "join": {"stage": "scrubbed", "status": "ok", "detail": ""}, "host_keys": {}, "clock": 1005.0, "root_bytes": int(DISK * 0.9),
}  # fmt: skip


def wrong(report: dict[str, Any], manifest: dict[str, Any] = MANIFEST) -> dict[str, str]:
    return {check.name: check.problem for check in judge(report, manifest, disk_bytes=DISK) if not check.ok}


def test_a_node_that_is_as_its_manifest_says_is_healthy() -> None:
    assert wrong(REPORT) == {}


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        (["hostname"], "debian", "hostname"),
        (["fqdn"], "node3", "full name"),
        (["addresses"], {"eth0": ["10.0.0.4/24"]}, "address"),
        (["addresses"], {}, "address"),
        (["routes"], [], "default route"),
        (["dns", "servers"], ["1.1.1.1"], "name servers"),
        (["dns", "search"], [], "search domains"),
        (["hosts"], [], "/etc/hosts"),
        (["users"], {}, "user ops"),
        (["users", "ops", "keys"], [], "user ops"),
        (["users", "ops", "keys"], [fingerprint(KEY), "SHA256:foreign"], "user ops"),
        (["users", "ops", "sudo"], False, "user ops"),
        (["cgroup", "controllers"], ["cpu", "cpuset", "pids"], "cgroup controllers"),
        (["cmdline"], "root=x", "kernel flags"),
        (["cmdline"], f"{FLAGS} {FLAGS}", "kernel flags"),
        (["timezone"], "Europe/Berlin", "time zone"),
        (["system"], "degraded", "systemd"),
        (["failed_units"], {"a.service": "it broke"}, "failed units"),
        (["cloud_init", "datasource"], "DataSourceNone", "cloud-init"),
        (["cloud_init", "instance_id"], "pibake-2", "instance-id"),
        (["cloud_init", "errors"], ["boom"], "cloud-init errors"),
        (["cloud_init", "warnings"], ["hm"], "cloud-init warnings"),
        (["join"], {}, "first boot"),
        (["join"], {"stage": "network", "status": "failed", "detail": "no cable"}, "first boot"),
        (["clock"], 900.0, "clock"),
        (["root_bytes"], 2 << 30, "root file system"),
    ],
)
def test_each_thing_that_is_wrong_is_found_and_named(path: list[str], value: object, check: str) -> None:
    report = copy.deepcopy(REPORT)
    place = report
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert list(wrong(report)) == [check]


def test_a_warning_that_every_board_gets_is_no_reason_to_call_one_unwell() -> None:
    known = "dmi.py[WARNING]: did not find either path /sys/class/dmi/id or dmidecode command"
    report = copy.deepcopy(REPORT)
    report["cloud_init"]["warnings"] = [known]
    assert wrong(report) == {}
    report["cloud_init"]["warnings"] = [known, "hm"]
    assert wrong(report) == {"cloud-init warnings": "hm"}


def test_a_node_with_a_second_address_has_to_have_both() -> None:
    manifest = {**MANIFEST, "node": {**MANIFEST["node"], "address6": "fd00::3/64"}}
    assert wrong(REPORT, manifest) == {"IPv6 address": "expected fd00::3/64"}
    both = {**REPORT, "addresses": {"eth0": ["10.0.0.3/24", "fd00::3/64"]}}
    assert wrong(both, manifest) == {}
    assert wrong(both, {**MANIFEST, "node": {**MANIFEST["node"], "address6": None}}) == {}


def test_each_data_disk_has_to_be_mounted_in_its_place() -> None:
    wanted = {"label": "data", "mount": "/srv/data", "filesystem": "ext4"}
    manifest = {**MANIFEST, "node": {**MANIFEST["node"], "disks": [wanted]}}
    told = {"label": "data", "mount": "/srv/data", "status": "ok", "detail": "ext4 on /dev/sda1, 4.0 GiB"}
    there = {**told, "filesystem": "ext4", "source": "/dev/sda1", "bytes": 4 << 30}
    assert wrong({**REPORT, "disks": [there]}, manifest) == {}
    assert wrong({**REPORT, "disks": [{**there, "filesystem": "xfs"}]}, manifest) == {
        "disk data": "expected ext4"
    }
    refused = {**told, "status": "failed", "detail": "/dev/sda is not empty"}
    assert wrong({**REPORT, "disks": [refused]}, manifest) == {"disk data": "/dev/sda is not empty"}
    assert list(wrong({**REPORT, "disks": [told]}, manifest)) == ["disk data"]
    assert list(wrong({**REPORT, "disks": []}, manifest)) == ["disk data"]
    assert list(wrong(REPORT, manifest)) == ["disk data"]


def test_the_head_has_to_have_its_address_outside_and_what_dhcp_says_there_is_not_known() -> None:
    fixed = {"address": "203.0.113.5/24", "gateway": "203.0.113.1", "nameservers": ["203.0.113.1"]}
    outside = {"to": "default", "via": "203.0.113.1", "dev": "eth1"}
    dns = {"servers": ["203.0.113.1"], "search": ["lab.example"]}

    def judged(upstream: dict[str, Any], **report: Any) -> dict[str, str]:
        own: dict[str, Any] = {"head": {"upstream": upstream}, "gateway": None, "nameservers": []}
        return wrong({**REPORT, **report}, {**MANIFEST, "node": {**MANIFEST["node"], **own}})

    both = {"eth0": ["10.0.0.3/24"], "eth1": ["203.0.113.5/24"]}
    assert judged(fixed, addresses=both, routes=[outside], dns=dns) == {}
    assert judged(fixed) == {
        "address outside": "expected 203.0.113.5/24",
        "default route": "expected 203.0.113.1",
        "name servers": "expected 203.0.113.1",
    }
    by_dhcp: dict[str, Any] = {"address": "dhcp", "gateway": None, "nameservers": []}
    assert judged(by_dhcp, routes=[], dns={"servers": [], "search": []}) == {}


def test_a_node_whose_seed_is_files_is_judged_without_cloud_init() -> None:
    manifest = {**MANIFEST, "vehicle": "files"}
    report = {**REPORT, "cloud_init": None, "seed_id": "pibake-1"}
    assert wrong(report, manifest) == {}
    names = {check.name for check in judge(report, manifest, disk_bytes=DISK)}
    assert "seed" in names
    assert not [name for name in names if "cloud-init" in name]
    assert wrong({**report, "seed_id": "pibake-2"}, manifest) == {"seed": "expected pibake-1"}
    assert wrong({**report, "seed_id": ""}, manifest) == {"seed": "expected pibake-1"}


def test_a_manifest_that_names_cloud_init_means_what_one_without_does() -> None:
    assert wrong(REPORT, {**MANIFEST, "vehicle": "cloud-init"}) == {}


@pytest.mark.parametrize(
    ("mark", "shown"), [(41.0, ["cloud-init done", "system running"]), (None, ["system running"])]
)
def test_only_the_timings_that_were_taken_are_shown(mark: float | None, shown: list[str]) -> None:
    times: dict[str, Any] = {
        "kernel_to_cloud_init_done": mark,
        "kernel_to_system_running": 42.0,
        "slowest_units": [],
    }
    seen: list[str] = []
    timings({"timings": times}, lambda name, _: seen.append(name))
    assert seen == shown
