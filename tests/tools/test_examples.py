"""The clusters in examples/: each plans, builds without a network, and gives its nodes what it gave them before."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import stat
import tarfile
import tempfile
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.conftest import KEY
from tests.tools import command, vendor
from tests.tools.images import tool
from tests.tools.offline import offline

from pibake import catalog, config, plan
from pibake.cache import Cache
from pibake.image import fat, table
from pibake.kube import vip
from pibake.netboot import dnsmasq
from pibake.netboot.values import Site
from pibake.progress import Silent
from pibake.serve import prepare
from pibake.serve.folders import Folders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.tools.offline import Offline

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GOLDEN = ROOT / "tests/golden/examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/cluster.yaml"))
EPOCH = "1700000000"
PACKAGES = {"containerd": "runc", "runc": "", "nftables": "", "dnsmasq-base": "", "wpasupplicant": "",
            "prometheus-node-exporter": ""}  # fmt: skip
"""The distribution's packages that examples ask for, and what each depends on."""
WRITTEN = ("etc/pibake/addons/", "var/lib/rancher/k3s/server/manifests/")
"""Where a golden image holds what is written for its cluster."""


def written(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((EXAMPLES / name / "cluster.yaml").read_text("utf-8"))
    return data


def bases(cluster: Mapping[str, Any]) -> set[str]:
    return {part["base"] for part in (cluster["defaults"], *cluster["nodes"]) if "base" in part}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offline]:
    folder = tmp_path_factory.mktemp("offline")
    with vendor.keyring() as keys, offline(folder, keys) as found:
        key = keys.make("offline@example.org")
        (folder / "home/.ssh/id_ed25519.pub").write_text(KEY + "\n")
        clusters = [written(name) for name in NAMES]
        found.bases(sorted({base for cluster in clusters for base in bases(cluster)}))
        found.distribution(PACKAGES, key)
        for distribution, version in {
            (cluster["kubernetes"]["distribution"], cluster["kubernetes"]["version"]) for cluster in clusters
        }:
            if distribution == "k3s":
                found.k3s(version)
            else:
                found.kubernetes(version, key)
        yield found


@pytest.fixture
def example(name: str, tmp_path: Path, world: Offline) -> Path:
    """A copy of an example, as a person has it before the first command; what registries would be asked for has come before."""
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    if (folder / "secrets.example").exists():
        tool("sh", "-c", f"cd {folder} && sh secrets.example")
    kubernetes = written(name)["kubernetes"]
    if kubernetes.get("airgap") and "vip" in kubernetes:
        image, _, tag = vip.IMAGE.rpartition(":")
        (folder / "addons.lock").write_text(world.container(image, tag))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_example_builds_and_its_nodes_get_what_they_got_before(
    name: str, example: Path, world: Offline, *, update_golden: bool
) -> None:
    planned = command.run("plan", env=world.environment, cwd=example)
    assert planned.returncode == 0, planned.stderr
    env = {**world.environment, "SOURCE_DATE_EPOCH": EPOCH}
    built = command.run("build", "--all", env=env, cwd=example)
    assert built.returncode == 0, built.stderr
    manifests = [
        json.loads(path.read_text("utf-8")) for path in sorted(example.glob("images/out/*.manifest.json"))
    ]
    assert [manifest["node"]["hostname"] for manifest in manifests] == sorted(
        node["hostname"].partition(".")[0] for node in written(name)["nodes"]
    )
    shown = {
        file: mask(text, example) for file, text in rendered(manifests, example / "images/out", world).items()
    }
    assert_no_secret("".join(shown.values()), example)
    assert_golden(shown, GOLDEN / name, update=update_golden)


@pytest.mark.parametrize("name", ["k3s-ha-poe"])
def test_every_board_of_the_rack_without_cards_finds_its_own_boot_files(
    name: str, example: Path, world: Offline, monkeypatch: pytest.MonkeyPatch, *, update_golden: bool
) -> None:
    for variable, value in world.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    decided = plan.plan(config.load(example / "cluster.yaml", bases=catalog.names()))
    site = Site("eth0", IPv4Interface("192.168.10.2/24"), decided.netboot.dhcp, IPv4Address("192.168.10.1"))
    folders = Folders(example / "netboot")
    served = prepare.prepare(decided, site, folders, Cache(), Silent(), uefi=False)
    assert served.left_out == ()
    assert [client.hostname for client in served.clients] == [node.hostname for node in decided.nodes]
    lines = [(folders.tftp / client.mac.replace(":", "-") / "cmdline.txt") for client in served.clients]
    shown = {
        "dnsmasq.conf": dnsmasq.config(site, served.clients, tftp_root="/netboot/tftp", run="/netboot/run"),
        "dnsmasq.hosts": dnsmasq.hosts(site, served.clients),
        "cmdlines.txt": mask("".join(path.read_text("utf-8") for path in lines), example),
    }
    assert_golden(shown, GOLDEN / f"{name}-wire", update=update_golden)


def assert_golden(shown: Mapping[str, str], folder: Path, *, update: bool) -> None:
    if update:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, text in shown.items():
            (folder / file).write_text(text, "utf-8")
    expected = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert shown.keys() == expected.keys()
    for file, text in shown.items():
        assert text == expected[file], folder / file


def rendered(manifests: Sequence[Mapping[str, Any]], out: Path, world: Offline) -> dict[str, str]:
    """Return a text for each node's seed, and one for what each golden image has beyond its base, by file name."""
    shown, seen = {}, set()
    for said in manifests:
        image, hostname = out / said["image"]["file"], said["node"]["hostname"]
        boot = fat.contents(image, table.read(image).partitions[0].start, said["seed"])
        shown[f"{hostname}.txt"] = "".join(
            f"=== {path}\n{held(path, data)}\n" for path, data in sorted(boot.items())
        )
        if said["base"]["sha256"] not in seen:
            seen.add(said["base"]["sha256"])
            shown[f"{hostname}-golden.txt"] = added(image, world.image(said["base"]["base_sha256"]))
    return shown


def added(image: Path, base: Path) -> str:
    """Return the files that an image's root file system has, and its base's has not or has otherwise.

    Those that are written for the cluster are shown; those that are the same in every one are only named.
    """
    before = root(base)
    new = {path: node for path, node in root(image).items() if before.get(path) != node}
    lines = []
    for path, (kind, data) in sorted(new.items()):
        made = path.startswith(WRITTEN)
        lines.append(f"--- {path} {kind}\n" + (data.decode() if made else ""))
    return "".join(lines)


def root(image: Path) -> dict[str, tuple[str, bytes]]:
    """Return the files and links in an image's last partition: mode or target, and content."""
    start = max(part.start for part in table.read(image).partitions)
    with tempfile.TemporaryDirectory(prefix="root-") as folder:
        tool("debugfs", "-R", f"rdump / {folder}", f"{image}?offset={start}")
        return {
            path.relative_to(folder).as_posix(): (
                (f"-> {path.readlink()}", b"")
                if path.is_symlink()
                else (f"{stat.S_IMODE(path.stat().st_mode):04o}", path.read_bytes())
            )
            for path in Path(folder).rglob("*")
            if path.is_symlink() or path.is_file()
        }


def held(path: str, data: bytes) -> str:
    """Return what a file of a seed holds: an archive's entries, and texts inside user-data as such."""
    if not path.endswith(".tar"):
        return re.sub(r'content: "([A-Za-z0-9+/=]+)"', unpacked, data.decode())
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        entries = [(entry, archive.extractfile(entry)) for entry in archive]
        return "".join(
            f"--- {entry.name} {entry.mode:04o} {entry.uname}:{entry.gname}\n{file.read().decode() if file else ''}\n"
            for entry, file in entries
        )


def unpacked(content: re.Match[str]) -> str:
    text = base64.b64decode(content[1]).decode()
    return "content: |\n" + "".join(f"      {line}" for line in text.splitlines(keepends=True)).rstrip()


MASKS = (
    (r"-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----", r"<\1>"),
    (r"(?m)^ssh-ed25519 \S+", "ssh-ed25519 <key>"),
    (r"\bK10[0-9a-f]{64}\b", "K10<sha256>"),
    (r"\b[0-9a-f]{64}\b", "<sha256>"),
    (r"\bpibake.golden=[0-9a-f]{16}", "pibake.golden=<hash>"),
    (r"\b[0-9a-f]{32}\b", "<password>"),
    (r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", "<token>"),
    (r'("token_id": )"[a-z0-9]{6}"', r'\1"<id>"'),
    (r"\bpibake-[0-9a-f]{16}\b", "pibake-<hash>"),
    (r'("pibake": )"[0-9.]+"', r'\1"<version>"'),
)
"""What differs from one cluster to the next, or with every release: what was issued, what follows from it, and digests."""


def mask(text: str, folder: Path) -> str:
    for password in passwords(folder):
        text = re.sub(f'"?{re.escape(in_base64(password))}"?', "<password>", text)
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    return text


def issued(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "secrets/identity.json").read_text("utf-8"))
    return found


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def passwords(folder: Path) -> Iterator[str]:
    """Yield what pibake made up for add-ons."""
    for options in issued(folder).get("addons", {}).values():
        yield from options.values()


def assert_no_secret(text: str, folder: Path) -> None:
    """Check that nothing of what was issued is left in a text, as it is or in base64: no golden file holds or depends on it."""

    def texts(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for one in value.values():
                yield from texts(one)
        elif isinstance(value, str) and len(value) > 20:
            yield value

    assert [value for value in texts(issued(folder)) if value in text or in_base64(value) in text] == []
