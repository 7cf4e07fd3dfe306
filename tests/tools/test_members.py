"""Members of a cluster through the real `pibake build`: what is on whose card, and where no secret ever shows."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from tests.tools import command
from tests.tools.test_release import elf

from pibake import identity
from pibake.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.identity import Secrets

PASSWORD_HASH = "$6$saltsalt$" + "Q" * 86
DATASTORE = "postgres://k3s:s3cr3t-of-the-datastore@192.168.10.2:5432/k3s"
REGISTRIES = (
    'mirrors:\n  "*":\nconfigs:\n  registry.lab.example:\n    auth: {password: s3cr3t-of-the-registry}\n'
)
NODES = """\
nodes:
  - {hostname: s1, address: 192.168.10.11, role: server}
  - {hostname: s2, address: 192.168.10.12, role: server}
  - {hostname: s3, address: 192.168.10.13, role: server}
  - {hostname: a1, address: 192.168.10.21, labels: {disk: ssd}, taints: ["storage=yes:NoSchedule"]}
  - {hostname: a2, address: 192.168.10.22}
"""


class Cluster:
    """A folder with a cluster.yaml of five members on the small base, and the real command."""

    def __init__(self, folder: Path, base: Path, kubernetes: str) -> None:
        self.folder = folder
        digest = subprocess.run(
            ["sha256sum", base], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        (folder / "bundle/bin").mkdir(parents=True)
        for name in ("k3s",) if "k3s" in kubernetes else ("kubeadm", "kubelet"):
            (folder / "bundle/bin" / name).write_bytes(elf())
        release = "v1.31.4+k3s1" if "k3s" in kubernetes else "v1.31.4"
        (folder / "bundle/bundle.yaml").write_text(f"kubernetes: {release}\narchitecture: arm64\n")
        (folder / "datastore.url").write_text(DATASTORE + "\n")
        (folder / "registries.yaml").write_text(REGISTRIES)
        (folder / "cluster.yaml").write_text(
            f"cluster: lab\nkubernetes: {{{kubernetes}, bundle: bundle}}\n"
            f"defaults: {{base: {{file: {base}, sha256: {digest}}}}}\n"
            "network: {subnet: 192.168.10.0/24, gateway: 192.168.10.1}\n"
            f'users: [{{name: ops, password_hash: "{PASSWORD_HASH}"}}]\n{NODES}'
        )
        self.said = ""

    def pibake(self, *argv: str, status: int = 0) -> str:
        env = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.folder)}
        done = command.run("-v", *argv, cwd=self.folder, env=env)
        assert done.returncode == status, done.stderr
        self.said += done.stdout + done.stderr
        return done.stdout

    def secrets(self) -> Secrets:
        return Vault(self.folder / "secrets").existing()

    def archive(self, node: str) -> dict[str, tuple[str, int]]:
        image = self.folder / f"images/out/{node}.img"
        packed = subprocess.run(
            ["mtype", "-i", f"{image}@@1M", "::pibake-secrets.tar"], capture_output=True, check=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            return {m.name: (tar.extractfile(m).read().decode(), m.mode) for m in tar}  # type: ignore[union-attr]

    def open_files(self, node: str) -> str:
        """Everything else of a seed, as one text."""
        image = self.folder / f"images/out/{node}.img"
        names = ("user-data", "meta-data", "network-config", "cmdline.txt")
        texts = [
            subprocess.run(
                ["mtype", "-i", f"{image}@@1M", f"::{name}"], capture_output=True, text=True, check=True
            )
            for name in names
        ]
        return "".join(done.stdout for done in texts)


@pytest.fixture(scope="module", params=["k3s", "kubeadm"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small_base: Path
) -> Cluster:
    kubernetes = {
        "k3s": "distribution: k3s, version: v1.31.4+k3s1, registries: registries.yaml",
        "kubeadm": "distribution: kubeadm, version: v1.31.4, token_ttl: 72h",
    }
    made = Cluster(tmp_path_factory.mktemp(request.param), small_base, kubernetes[request.param])
    made.pibake("build", "--all", "--json")
    return made


def hidden(cluster: Cluster) -> list[str]:
    """Every text that must not be seen, also as single lines: a key is as good without its header."""
    whole = [*cluster.secrets().values(), PASSWORD_HASH, DATASTORE, "s3cr3t-of-the-registry"]
    lines = [line for text in whole for line in text.splitlines() if len(line) > 20 and "-----" not in line]
    return [*whole, *lines]


def test_nothing_that_is_shown_or_left_open_holds_a_secret(cluster: Cluster) -> None:
    cluster.pibake("plan", "--json")
    cluster.pibake("plan")
    cluster.pibake("secrets", "list", "--json")
    (cluster.folder / "blocked").write_text("")
    cluster.pibake("build", "--hostname", "s1", "-o", "blocked/images", status=1)
    manifests = [path.read_text() for path in (cluster.folder / "images/out").glob("*.json")]
    assert len(manifests) == 5
    shown = (
        cluster.said + "".join(manifests) + "".join(cluster.open_files(f"{n}") for n in ("s1", "s2", "a1"))
    )
    assert [text for text in hidden(cluster) if text in shown] == []
    assert "mcopy" in cluster.said  # the commands were in it


def test_a_worker_has_its_own_token_and_nothing_of_a_servers(cluster: Cluster) -> None:
    secrets = cluster.secrets()
    text = "".join(content for content, _ in cluster.archive("a1").values())
    mine = "agent" if secrets.distribution == "k3s" else "bootstrap"
    assert secrets.tokens[mine].reveal() in text
    others = [pair.key.reveal() for pair in secrets.authorities.values()]
    others += [token.reveal() for name, token in secrets.tokens.items() if name != mine]
    others += [node.host_key.private.reveal() for name, node in secrets.nodes.items() if name != "a1"]
    others += [node.node_password.reveal() for name, node in secrets.nodes.items() if name != "a1"]
    assert secrets.service_account
    assert [
        text for text in [*others, secrets.service_account.reveal()] if text in text_of(cluster, "a1")
    ] == []


def text_of(cluster: Cluster, node: str) -> str:
    return "".join(content for content, _ in cluster.archive(node).values()) + cluster.open_files(node)


def test_everything_in_the_archive_is_for_root_alone_but_what_is_public(cluster: Cluster) -> None:
    for node in ("s1", "a1"):
        for path, (content, mode) in cluster.archive(node).items():
            public = path.endswith((".crt", ".pub"))
            assert mode == (0o644 if public else 0o600), path
            assert public or content


def test_images_with_secrets_are_for_their_owner_alone(cluster: Cluster) -> None:
    for image in (cluster.folder / "images/out").glob("*.img"):
        assert stat.S_IMODE(image.stat().st_mode) == 0o600


def test_a_compressed_image_is_private_too(cluster: Cluster) -> None:
    cluster.pibake("build", "--hostname", "a2", "--compress", "zst", "-o", "packed")
    assert stat.S_IMODE((cluster.folder / "packed/a2.img.zst").stat().st_mode) == 0o600


def test_building_again_changes_no_secret_and_no_byte(cluster: Cluster) -> None:
    before = cluster.secrets()
    digest = (cluster.folder / "images/out/a1.img.sha256").read_text()
    cluster.pibake("build", "--hostname", "a1")
    assert cluster.secrets() == before
    assert (cluster.folder / "images/out/a1.img.sha256").read_text() == digest


def test_a_new_token_is_a_new_instance(cluster: Cluster) -> None:
    before = json.loads((cluster.folder / "images/out/a1.manifest.json").read_text())
    cluster.pibake("secrets", "rotate", "tokens")
    cluster.pibake("build", "--hostname", "a1")
    after = json.loads((cluster.folder / "images/out/a1.manifest.json").read_text())
    assert before["instance_id"] != after["instance_id"]
    identity.check(cluster.secrets(), datetime.now(UTC))


def test_a_node_that_becomes_a_server_must_be_forgotten_first(cluster: Cluster) -> None:
    path = cluster.folder / "cluster.yaml"
    text = path.read_text()
    try:
        path.write_text(text.replace("hostname: s3, address: 192.168.10.13, role: server", "hostname: s3, address: 192.168.10.13")
                        .replace("hostname: a2, address: 192.168.10.22", "hostname: a2, address: 192.168.10.22, role: server"))  # fmt: skip
        before = cluster.secrets()
        said = cluster.said
        cluster.pibake("build", "--hostname", "a2", status=1)
        message = cluster.said[len(said) :]
        assert "pibake forget" in message
        assert cluster.secrets() == before
    finally:
        path.write_text(text)
