"""One boot through every program that configures a network, with cloud-init and without, on Debian 11, 12 and 13.

`make test` boots one of them beside the Debian 13 card of test_boot.py; `make test-boot-all` boots all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import KEY

HERE = Path(__file__).parent
FLAVOURS = {
    "debian-11": "",
    "debian-11-ifupdown": "",
    "debian-12-ifupdown": ", address6: fd00:10::13",
    "debian-12-nm": ", address6: fd00:10::13",
    "debian-12-dhcpcd": "",
    "debian-12-bare": ", address6: fd00:10::13",
    # without a name that udev has given by then: the port is found by its address, and renamed
    "debian-13-ifupdown-bare": ", mac: 'dc:a6:32:01:02:03'",
    "debian-13": ", address6: fd00:10::13",
}
"""Base -> what its node says beside its name and its address."""
DEFAULT = "debian-12-bare"
HASH = "$6$pibake$oAgtjbMynLprJ976bpsPaAhyG4nCY5B22P4UaMszfifQ9UnDGg.GKBBdQ9tUoqIdS20kF5VkA1rDvxTPFZ/DY."


def described(folder: Path, base: str) -> None:
    (folder / "cluster.yaml").write_text(
        "cluster: lab\ndomain: lab.example\n"
        "network:\n  subnet: 192.168.10.0/24\n  gateway: 192.168.10.1\n  dns: [192.168.10.1, 192.168.10.2]\n"
        "  ipv6: {subnet: 'fd00:10::/64', gateway: 'fd00:10::1', ra: false}\n"
        f"defaults: {{base: {base}, timezone: Europe/Berlin}}\n"
        f"users:\n  - {{name: ops, ssh_keys: ['{KEY}'], groups: [adm, pibake], password_hash: '{HASH}'}}\n"
        "nodes:\n"
        f"  - {{hostname: node3, address: 192.168.10.13/24{FLAVOURS[base]}}}\n"
        "  - {hostname: node4, address: 192.168.10.14/24}\n"
    )


def pibake(folder: Path, *arguments: str) -> str:
    # the cache is the person's own: a base takes minutes to assemble
    env = {**os.environ, "PIBAKE_CATALOG": str(HERE / "bases.yaml")}
    done = subprocess.run(
        [sys.executable, "-m", "pibake", *arguments],
        cwd=folder,
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 or "--json" in arguments, done.stderr
    return done.stdout or done.stderr


def mark(base: str) -> Any:
    chosen = [pytest.mark.boot, pytest.mark.base] if base == DEFAULT else [pytest.mark.flavours]
    return pytest.param(base, marks=chosen)


@pytest.mark.parametrize("base", [mark(base) for base in FLAVOURS])
def test_a_node_comes_up_as_its_plan_says(base: str, tmp_path: Path) -> None:
    described(tmp_path, base)
    pibake(tmp_path, "build", "--hostname", "node3")
    said = json.loads(pibake(tmp_path, "boot", "node3", "--json", "--log", "console.log", "--timeout", "900"))
    assert said["healthy"], [check for check in said["checks"] if not check["ok"]]
    report = said["report"]
    manifest = json.loads((tmp_path / "images/out/node3.manifest.json").read_text())
    assert (report["cloud_init"] is None) == base.endswith("-bare")
    assert manifest["vehicle"] == ("files" if base.endswith("-bare") else "cloud-init")
    have = {address for found in report["addresses"].values() for address in found}
    assert have == {"192.168.10.13/24", *(["fd00:10::13/64"] if "address6" in FLAVOURS[base] else [])}
    assert report["dns"]["servers"] == ["192.168.10.1", "192.168.10.2"]
    assert "192.168.10.14 node4.lab.example node4" in report["hosts"]
    assert set(report["users"]["ops"]["groups"]) >= {"ops", "adm", "pibake"}
    assert report["users"]["ops"]["locked"] is False
    assert report["join"]["stage"] == "scrubbed"
    assert report["root_bytes"] > 6.5 * (1 << 30)
    if "mac" in FLAVOURS[base]:
        assert "lan0" in report["addresses"]
