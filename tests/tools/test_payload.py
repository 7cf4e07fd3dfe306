"""What is baked in: k3s' files, bundles and what is wrong with them, and packages from a real signed apt repository."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from tests.tools import test_release, vendor
from tests.tools.httpd import Server
from tests.tools.images import MIB, tool
from tests.tools.test_debs import deb
from tests.tools.test_release import HURRY, elf, elf32

from pibake import apt, bundle, payload, resources
from pibake.bases import Base
from pibake.cache import Cache
from pibake.errors import FetchError, MissingTool, PibakeError
from pibake.image import dpkg, ext4
from pibake.image.golden import Payload, PayloadFile, golden
from pibake.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tools.vendor import Keys

EPOCH = 1_700_000_000
BASE = Base(Path("unused"), "0" * 64, "unused", EPOCH)


@dataclass(frozen=True)
class Plan:
    """What of a plan the payload needs."""

    distribution: str = "kubeadm"
    version: str = "v1.31.4"
    airgap: bool = False
    bundle: Path | None = None


K3S = Plan("k3s", test_release.VERSION)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def brought(found: Payload) -> list[PayloadFile]:
    """The files that are not pibake's own."""
    return [file for file in found.files if resources.path("overlays") not in file.source.parents]


def obtain(plan: Plan, cache: Cache, base: Base = BASE, *, arch: str = "arm64") -> Payload:
    return payload.obtain(plan, base, cache, Silent(), arch=arch, policy=HURRY)


# k3s


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    with Server() as server:
        monkeypatch.setenv("PIBAKE_K3S_URL", f"{server.url}mirror/")
        yield {**test_release.publish(server), **test_release.publish(server, "armhf")}


def test_k3s_is_one_executable_with_three_more_names(releases: dict[str, bytes], cache: Cache) -> None:
    found = obtain(K3S, cache)
    assert [(file.path, file.mode) for file in brought(found)] == [("usr/local/bin/k3s", 0o755)]
    assert brought(found)[0].sha256 == hashlib.sha256(releases["k3s-arm64"]).hexdigest()
    names = {path: target for path, target in found.links.items() if path.startswith("usr/local")}
    assert names == {f"usr/local/bin/{name}": "k3s" for name in ("kubectl", "crictl", "ctr")}


def test_airgap_adds_the_images_and_the_marker_against_importing_them_again(
    releases: dict[str, bytes], cache: Cache
) -> None:
    found = obtain(Plan("k3s", K3S.version, airgap=True), cache)
    folder = "var/lib/rancher/k3s/agent/images"
    contents = {file.path: file.source.read_bytes() for file in brought(found)}
    assert contents == {
        "usr/local/bin/k3s": releases["k3s-arm64"],
        f"{folder}/k3s-airgap-images-arm64.tar.zst": releases["k3s-airgap-images-arm64.tar.zst"],
        f"{folder}/.cache.json": b"",
    }


def test_a_32_bit_base_gets_k3s_files_for_armhf_under_the_same_names(
    releases: dict[str, bytes], cache: Cache
) -> None:
    found = obtain(Plan("k3s", K3S.version, airgap=True), cache, arch="armhf")
    folder = "var/lib/rancher/k3s/agent/images"
    assert {file.path: file.source.read_bytes() for file in brought(found)} == {
        "usr/local/bin/k3s": releases["k3s-armhf"],
        f"{folder}/k3s-airgap-images-arm.tar.zst": releases["k3s-airgap-images-arm.tar.zst"],
        f"{folder}/.cache.json": b"",
    }
    assert found.links == obtain(K3S, cache).links


def test_a_k3s_bundle_must_fit_a_32_bit_base(tmp_path: Path, cache: Cache) -> None:
    folder = tmp_path / "bundle"
    (folder / "bin").mkdir(parents=True)
    (folder / "images").mkdir()
    (folder / "bin/k3s").write_bytes(elf32())
    (folder / "images/mine.tar").write_bytes(docker("arm"))
    plan = Plan("k3s", K3S.version, airgap=True, bundle=folder)
    found = obtain(plan, cache, arch="armhf")
    assert {file.path.rpartition("/")[2] for file in brought(found)} == {"k3s", "mine.tar", ".cache.json"}
    with pytest.raises(PibakeError, match=r"bin/k3s is made for armhf; the base needs arm64"):
        obtain(plan, cache)


def test_a_bundle_takes_the_place_of_k3s_downloads(tmp_path: Path, cache: Cache) -> None:
    folder = tmp_path / "bundle"
    (folder / "bin").mkdir(parents=True)
    (folder / "images").mkdir()
    (folder / "bin/k3s").write_bytes(elf())
    (folder / "images/mine.tar.zst").write_bytes(zstandard.compress(docker("arm64")))
    found = obtain(Plan("k3s", K3S.version, airgap=True, bundle=folder), cache)
    assert {file.path.rpartition("/")[2] for file in brought(found)} == {"k3s", "mine.tar.zst", ".cache.json"}
    (folder / "bin/kubelet").write_bytes(elf())
    with pytest.raises(PibakeError, match="kubelet is of no use for k3s"):
        obtain(Plan("k3s", K3S.version, bundle=folder), cache)


# bundles


def archive(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def docker(*architectures: str) -> bytes:
    """Return what `docker save` makes of one image for each processor."""
    entries = [{"Config": f"{a}.json", "RepoTags": [f"demo:{a}"], "Layers": []} for a in architectures]
    configs = {f"{a}.json": json.dumps({"architecture": a}).encode() for a in architectures}
    return archive({**configs, "layer.tar": os.urandom(9000), "manifest.json": json.dumps(entries).encode()})


def oci(*architectures: str) -> bytes:
    """Return an OCI image layout of one image for several processors, behind an index."""
    blobs: dict[str, bytes] = {}

    def blob(value: dict[str, Any]) -> str:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return f"sha256:{digest}"

    manifests = [{"digest": blob({"config": {"digest": blob({"architecture": a})}})} for a in architectures]
    top = {"digest": blob({"manifests": manifests}), "annotations": {"io.containerd.image.name": "demo:1"}}
    return archive({**blobs, "oci-layout": b"{}", "index.json": json.dumps({"manifests": [top]}).encode()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound bundle."""
    folder = tmp_path / "bundle"
    files = {
        "bundle.yaml": b"kubernetes: v1.31.4\narchitecture: arm64\n",
        "README.md": b"mine\n",
        "bin/kubeadm": elf(),
        "bin/kubelet": elf(),
        "bin/helper": b"#!/bin/sh\n",
        "cni/bridge": elf(),
        "images/pause.tar": docker("arm64"),
        "images/app.tar.gz": gzip.compress(oci("amd64", "arm64")),
        "images/third.tar.zst": zstandard.compress(oci("arm64")),
        "manifests/flannel.yaml": b"kind: List\n",
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "debs").mkdir()
    deb(folder / "debs", "demo")
    for tree in (folder / "debs").glob("*.tree"):
        tool("rm", "-r", tree)
    return folder


def test_a_bundle_goes_to_its_places(folder: Path, cache: Cache) -> None:
    found = obtain(Plan(bundle=folder), cache)
    assert {file.path: file.mode for file in brought(found)} == {
        "usr/local/lib/pibake/kubernetes-release": 0o644,
        "usr/bin/kubeadm": 0o755,
        "usr/bin/kubelet": 0o755,
        "usr/bin/helper": 0o755,
        "opt/cni/bin/bridge": 0o755,
        "var/lib/pibake/images/pause.tar": 0o644,
        "var/lib/pibake/images/app.tar.gz": 0o644,
        "var/lib/pibake/images/third.tar.zst": 0o644,
    }
    assert [deb.path.name for deb in found.debs] == ["demo_1.0-1_arm64.deb"]


@pytest.mark.parametrize(
    ("path", "data", "message"),
    [
        ("bin/kubelet", elf(62), r"bin/kubelet is made for amd64"),
        ("cni/bridge", elf32(), r"cni/bridge is made for armhf; the base needs arm64"),
        ("bin/kubelet", b"hello", r"bin/kubelet is no executable: it begins with 68 65 6c 6c 6f"),
        ("bin/kubelet", b"", r"bin/kubelet is no executable: it begins with nothing"),
        ("images/pause.tar", docker("arm64", "amd64"), r"pause\.tar: the image demo:amd64 is made for amd64"),
        ("images/pause.tar", oci("amd64", "s390x"), r"the image demo:1 is made for amd64, s390x"),
        ("images/pause.tar", archive({"x": b"y"}), r"pause\.tar holds no container image"),
        ("images/app.tar.gz", gzip.compress(docker("arm64"))[:500], r"app\.tar\.gz is damaged"),
        ("images/third.tar.zst", b"\x28\xb5\x2f\xfdxxxxxxxxxxxx", r"third\.tar\.zst is damaged"),
        ("images/pause.img", b"x", r"images/pause\.img does not belong"),
        ("extra/x", b"x", r"holds extra, which pibake does not know"),
        ("note.txt", b"x", r"holds note\.txt, which pibake does not know"),
        ("manifests/deep/x.yaml", b"x", r"manifests/deep does not belong"),
        ("debs/x.deb", b"x", r"x\.deb is no Debian package"),
        (
            "bundle.yaml",
            b"kubernetes: v1.20.2\narchitecture: arm64\n",
            r"says `kubernetes: v1\.20\.2`, but v1\.31\.4",
        ),
        (
            "bundle.yaml",
            b"kubernetes: v1.31.4\narchitecture: amd64\n",
            r"says `architecture: amd64`, but arm64",
        ),
        ("bundle.yaml", b"kubernetes: v1.31.4\n", r"should say `kubernetes` and `architecture`"),
        ("bundle.yaml", b"{", r"bundle\.yaml is no YAML"),
    ],
)
def test_what_does_not_belong_into_a_bundle_is_refused_by_name(
    path: str, data: bytes, message: str, folder: Path
) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    with pytest.raises(PibakeError, match=message):
        bundle.read(folder, "v1.31.4", "arm64")


@pytest.fixture
def folder_32(folder: Path) -> Path:
    """The sound bundle, made for a 32-bit base."""
    for path in ("bin/kubeadm", "bin/kubelet", "cni/bridge"):
        (folder / path).write_bytes(elf32())
    (folder / "bundle.yaml").write_text("kubernetes: v1.31.4\narchitecture: armhf\n")
    (folder / "images/pause.tar").write_bytes(docker("arm"))
    (folder / "images/app.tar.gz").write_bytes(gzip.compress(oci("arm64", "arm")))
    (folder / "images/third.tar.zst").write_bytes(zstandard.compress(oci("arm")))
    (folder / "debs/demo_1.0-1_arm64.deb").unlink()
    made = deb(folder.parent / "for-armhf", "demo", arch="armhf")
    made.rename(folder / "debs" / made.name)
    return folder


def test_a_bundle_for_a_32_bit_base_is_one_for_armhf_throughout(folder_32: Path) -> None:
    found = bundle.read(folder_32, "v1.31.4", "armhf")
    assert [path.name for path in found.debs] == ["demo_1.0-1_armhf.deb"]
    assert len(found.images) == 3


@pytest.mark.parametrize(
    ("path", "data", "message"),
    [
        ("bin/kubelet", elf(), r"bin/kubelet is made for arm64; the base needs armhf"),
        ("bin/kubelet", elf32(0x5000200), r"bin/kubelet is made for armel; the base needs armhf"),
        ("bin/kubelet", elf(243), r"bin/kubelet is made for riscv64; the base needs armhf"),
        ("bin/kubelet", elf(8, bits=32), r"bin/kubelet is made for machine 8 with 32 bits;"),
        ("images/pause.tar", docker("arm64"), r"demo:arm64 is made for arm64; the base needs arm$"),
        (
            "bundle.yaml",
            b"kubernetes: v1.31.4\narchitecture: arm64\n",
            r"says `architecture: arm64`, but armhf is wanted",
        ),
    ],
)
def test_what_a_32_bit_base_does_not_run_is_refused_by_name(
    path: str, data: bytes, message: str, folder_32: Path
) -> None:
    (folder_32 / path).write_bytes(data)
    with pytest.raises(PibakeError, match=message):
        bundle.read(folder_32, "v1.31.4", "armhf")


def test_a_bundle_must_say_what_it_is_and_hold_what_a_node_needs(folder: Path, cache: Cache) -> None:
    (folder / "bin/kubelet").unlink()
    obtain(Plan(bundle=folder), cache)  # a package may hold it
    tool("rm", "-r", folder / "debs")
    with pytest.raises(PibakeError, match=r"kubernetes v1\.31\.4: the bundle .* has no bin/kubelet"):
        obtain(Plan(bundle=folder), cache)
    (folder / "bundle.yaml").unlink()
    with pytest.raises(PibakeError, match=r"the bundle has no .*bundle\.yaml"):
        obtain(Plan(bundle=folder), cache)
    with pytest.raises(PibakeError, match="is no folder"):
        obtain(Plan(bundle=folder / "absent"), cache)


# packages


class Repository:
    """Flat apt repositories (deb line with `/`), signed, on a web server."""

    def __init__(self, folder: Path, keys: Keys, key: str, server: Server) -> None:
        self.folder, self.keys, self.key, self.server = folder, keys, key, server

    def publish(self, place: str, packages: list[Path]) -> None:
        stanzas = []
        for path in packages:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            control = tool("dpkg-deb", "--field", path).decode().rstrip()
            stanzas.append(f"{control}\nFilename: ./{path.name}\nSize: {len(data)}\nSHA256: {digest}\n")
            self.server.add(f"{place}./{path.name}", data)
            self.server.add(f"{place}{path.name}", data)
        listed = "\n".join(stanzas).encode()
        self.server.add(f"{place}Packages", listed)
        release = (
            "Origin: test\nDate: Tue, 14 Nov 2023 22:13:20 UTC\nArchitectures: arm64\n"
            f"SHA256:\n {hashlib.sha256(listed).hexdigest()} {len(listed)} Packages\n"
        )
        signed = self.keys.gpg("--local-user", self.key, "--clearsign", data=release.encode())
        self.server.add(f"{place}InRelease", signed)


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    with vendor.keyring() as keys:
        yield keys


@pytest.fixture
def repository(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """The Kubernetes repository in two versions, and the distribution's, with a key of its own."""
    folder = tmp_path / "packages"
    kubernetes, distribution = (keys.make(f"{name}-{tmp_path.name}@example.org") for name in ("k", "d"))
    packages = [deb(folder, name, version=f"1.31.{patch}-1.1", usr__bin__tool=name, more="Depends: cri-tools\n")
                for name in ("kubeadm", "kubelet", "kubectl") for patch in (4, 9)]  # fmt: skip
    packages += [
        deb(folder, "kubernetes-cni", version="1.5.1-1.1"),
        deb(folder, "cri-tools", version="1.31.1-1.1"),
    ]
    with Server() as server:
        monkeypatch.setenv("PIBAKE_KUBERNETES_URL", f"{server.url}k8s")
        found = Repository(folder, keys, kubernetes, server)
        found.publish("k8s/stable:/v1.31/deb/", packages)
        server.add("k8s/stable:/v1.31/deb/Release.key", keys.gpg("--armor", "--export", kubernetes))
        runc = deb(folder, "runc", version="1.1", more="Multi-Arch: foreign\n")
        containerd = deb(
            folder, "containerd", version="1.7.24", more="Depends: runc, there\nRecommends: absent\n"
        )
        Repository(folder, keys, distribution, server).publish("debian/", [runc, containerd])
        (folder / "distribution.gpg").write_bytes(keys.export(distribution))
        yield found


@pytest.fixture
def base(tmp_path: Path, repository: Repository) -> Base:
    """A base whose package `there` is installed, and whose sources name the distribution with its key."""
    root = tmp_path / "root"
    status = "Package: there\nStatus: install ok installed\nMaintainer: A <a@example.org>\nArchitecture: arm64\nVersion: 1\nDescription: x\n"
    source = (
        f"deb [arch=arm64 signed-by=/usr/share/keyrings/distribution.gpg] {repository.server.url}debian/ /\n"
    )
    for path, data in {
        "var/lib/dpkg/status": status.encode(),
        "var/lib/dpkg/info/format": b"1\n",
        "etc/apt/sources.list": source.encode(),
        "usr/share/keyrings/real.pgp": (repository.folder / "distribution.gpg").read_bytes(),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "usr/share/keyrings/distribution.gpg").symlink_to("real.pgp")  # as in trixie
    (root / "etc/apt/sources.list.d").mkdir()
    image = tmp_path / "base.img"
    image.touch()
    os.truncate(image, 48 * MIB)
    tool(
        "sfdisk", "--quiet", image, data=b"label: dos\nstart=2048, size=16384, type=c\nstart=18432, type=83\n"
    )
    offset = 18432 * 512
    tool("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", root, "-E", f"offset={offset},root_owner=0:0", image,
         str((48 * MIB - offset) // 4096))  # fmt: skip
    return Base(image, hashlib.sha256(image.read_bytes()).hexdigest(), "small", EPOCH, {"name": "small"})


NAMES = ["containerd_1.7.24", "cri-tools_1.31.1-1.1", "kubeadm_1.31.4-1.1", "kubectl_1.31.4-1.1",
         "kubelet_1.31.4-1.1", "kubernetes-cni_1.5.1-1.1", "runc_1.1"]  # fmt: skip


def test_apt_resolves_the_wanted_version_and_what_it_needs_of_the_distribution(
    base: Base, repository: Repository, cache: Cache
) -> None:
    found = obtain(Plan(), cache, base)
    assert [deb.path.name for deb in found.debs] == [f"{name}_arm64.deb" for name in NAMES]
    repository.server.files.clear()
    assert obtain(Plan(), cache, base) == found


@pytest.mark.usefixtures("repository")
def test_further_packages_are_resolved_together_with_those_of_kubernetes(base: Base, cache: Cache) -> None:
    found = payload.obtain(Plan(), base, cache, Silent(), packages=apt.Wanted(("runc",)), policy=HURRY)
    assert [deb.path.name for deb in found.debs] == [f"{name}_arm64.deb" for name in NAMES]
    alone = payload.obtain(None, base, cache, Silent(), packages=apt.Wanted(("runc",)), policy=HURRY)
    assert [deb.path.name for deb in alone.debs] == ["runc_1.1_arm64.deb"]
    assert "usr/local/lib/pibake/kubernetes-release" not in {file.path for file in alone.files}


@pytest.mark.usefixtures("repository")
def test_packages_are_looked_for_in_the_architecture_of_the_base(base: Base, cache: Cache) -> None:
    with pytest.raises(FetchError, match=r"cannot be had: .*kubeadm"):  # the repository has them for arm64
        obtain(Plan(), cache, base, arch="armhf")


@pytest.mark.usefixtures("repository")
def test_the_packages_are_unpacked_in_the_golden_image(base: Base, cache: Cache) -> None:
    made = golden(base, obtain(Plan(), cache, base), cache, Silent())
    where = made.image, ext4.root_partition(made.image).start
    status = dpkg.parse((ext4.read_file(*where, dpkg.STATUS) or b"").decode())
    assert {s["Package"]: s["Status"] for s in status} == {
        "there": "install ok installed",
        **dict.fromkeys((name.partition("_")[0] for name in NAMES), "install ok unpacked"),
    }
    assert ext4.read_file(*where, "usr/bin/tool")


@pytest.mark.usefixtures("repository")
def test_a_cached_package_that_changed_is_fetched_again(base: Base, cache: Cache) -> None:
    found = obtain(Plan(), cache, base)
    before = found.debs[0].path.read_bytes()
    found.debs[0].path.write_bytes(b"damage")
    assert obtain(Plan(), cache, base).debs[0].path.read_bytes() == before


@pytest.mark.usefixtures("repository")
def test_a_version_the_repository_lacks_is_an_error_with_what_apt_said(base: Base, cache: Cache) -> None:
    with pytest.raises(
        FetchError, match=r"Kubernetes v1\.31\.77 for small cannot be had: .*1\.31\.77"
    ) as caught:
        obtain(Plan(version="v1.31.77"), cache, base)
    assert "stable:/v1.31/deb" in caught.value.hint


def test_a_repository_signed_by_another_key_is_refused(
    base: Base, repository: Repository, cache: Cache, keys: Keys
) -> None:
    other = keys.make(f"other-{base.image.parent.name}@example.org")
    server = repository.server
    server.add("k8s/stable:/v1.31/deb/Release.key", keys.gpg("--armor", "--export", other))
    with pytest.raises(FetchError, match=r"not signed|verified|NO_PUBKEY"):
        obtain(Plan(), cache, base)
    assert not list(cache.root.rglob("*.deb"))


def test_a_repository_that_is_away_is_an_error(base: Base, repository: Repository, cache: Cache) -> None:
    del repository.server.files["/debian/InRelease"]
    with pytest.raises(FetchError, match="cannot be had"):
        obtain(Plan(), cache, base)


def test_a_host_without_apt_is_told_so(
    base: Base, cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "debugfs").symlink_to("/usr/sbin/debugfs")
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr("pibake.run.SBIN", str(tools))
    with pytest.raises(MissingTool, match="apt-get is not installed"):
        obtain(Plan(), cache, base)


@pytest.mark.usefixtures("repository")
def test_real_debian_gives_containerd(debian_13: Path, cache: Cache) -> None:
    found = obtain(Plan(), cache, Base(debian_13, debian_13.stem, "debian-13", EPOCH))
    names = {deb.path.name.partition("_")[0] for deb in found.debs}
    assert names >= {"containerd", "runc", "kubeadm", "kubelet", "kubectl", "cri-tools", "kubernetes-cni"}


@pytest.mark.parametrize(("distribution", "version"), [("k3s", "v1.31.4+k3s1"), ("kubeadm", "v1.31.4")])
def test_every_member_has_the_joining_unit_enabled(
    distribution: str, version: str, folder: Path, cache: Cache, tmp_path: Path
) -> None:
    if distribution == "k3s":
        folder = tmp_path / "k3s"
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/k3s").write_bytes(elf())
    found = obtain(Plan(distribution=distribution, version=version, bundle=folder), cache)
    modes = {file.path: file.mode for file in found.files}
    assert modes["usr/local/lib/pibake/join"] == 0o755
    assert modes["etc/systemd/system/pibake-join.service"] == 0o644
    wants = "etc/systemd/system/multi-user.target.wants"
    assert found.links[f"{wants}/pibake-join.service"] == "/etc/systemd/system/pibake-join.service"
    assert ("usr/lib/systemd/system/kubelet.service" in modes) == (distribution == "kubeadm")
    assert (f"{wants}/pibake-install.service" in found.links) == (distribution == "kubeadm")
