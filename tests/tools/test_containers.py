"""Container images: pulled from a real registry for one platform, packed, and imported by the real containerd."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import subprocess
import tarfile
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools.registryd import CUT, Gate, Registry, program

from pibake import arch, containers
from pibake.cache import Cache
from pibake.containers.name import Name
from pibake.errors import FetchError, PibakeError, VerificationError
from pibake.pins import FILE, Downloads, Pins
from pibake.progress import Plain
from pibake.web import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pibake.containers import Archive

HURRY = Policy(attempts=3, backoff=0.01, longest=0.1, connect=2, read=2)
OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker"
INDEX = {OCI: f"{OCI}.index.v1+json", DOCKER: f"{DOCKER}.distribution.manifest.list.v2+json"}
MANIFEST = {OCI: f"{OCI}.manifest.v1+json", DOCKER: f"{DOCKER}.distribution.manifest.v2+json"}
CONFIG = {OCI: f"{OCI}.config.v1+json", DOCKER: f"{DOCKER}.container.image.v1+json"}
LAYER = {OCI: f"{OCI}.layer.v1.tar+gzip", DOCKER: f"{DOCKER}.image.rootfs.diff.tar.gzip"}
BOARDS = ("linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Store:
    """A repository of a registry, filled as buildx and docker fill it."""

    def __init__(self, registry: Registry, name: str = "metallb/controller") -> None:
        self.registry, self.name = registry, name

    @property
    def image(self) -> str:
        return f"{self.registry.address}/{self.name}"

    def ask(self, method: str, path: str, body: bytes, kind: str = "application/octet-stream") -> str:
        with closing(http.client.HTTPConnection("127.0.0.1", self.registry.port, timeout=10)) as connection:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in {201, 202}, said
            return answer.headers.get("Location", "")

    def blob(self, data: bytes, kind: str) -> dict[str, Any]:
        place = self.ask("POST", f"/v2/{self.name}/blobs/uploads/", b"")
        place = place.removeprefix(f"http://{self.registry.address}")
        self.ask("PUT", f"{place}&digest=sha256:{sha256(data)}", data)
        return {"mediaType": kind, "digest": f"sha256:{sha256(data)}", "size": len(data)}

    def manifest(self, value: dict[str, Any], kind: str, tag: str = "") -> dict[str, Any]:
        data = json.dumps({"schemaVersion": 2, "mediaType": kind, **value}).encode()
        self.ask("PUT", f"/v2/{self.name}/manifests/{tag or f'sha256:{sha256(data)}'}", data, kind)
        return {"mediaType": kind, "digest": f"sha256:{sha256(data)}", "size": len(data)}

    def one(self, platform: str, style: str = OCI, tag: str = "", noise: int = 20_000) -> dict[str, Any]:
        """Push the image of one platform: two layers, of which one is the same for all."""
        system, architecture, *variant = platform.split("/")
        layers = [
            layer("etc/shared", b"the same"),
            layer("bin/program", platform.encode() + os.urandom(noise)),
        ]
        config = {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {}),
                  "config": {}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(gzip.decompress(one))}" for one in layers]}}  # fmt: skip
        value = {
            "config": self.blob(json.dumps(config).encode(), CONFIG[style]),
            "layers": [self.blob(one, LAYER[style]) for one in layers],
        }
        facts = {key: config[key] for key in ("os", "architecture", "variant") if key in config}
        return {**self.manifest(value, MANIFEST[style], tag), "platform": facts}

    def many(self, tag: str, style: str = OCI, platforms: tuple[str, ...] = BOARDS) -> dict[str, Any]:
        """Push images of several platforms under one tag, with an attestation as buildx adds it."""
        images = [self.one(platform, style) for platform in platforms]
        attested = {
            **self.one("unknown/unknown", style),
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        }
        self.manifest({"manifests": [*images, attested]}, INDEX[style], tag)
        return dict(zip(platforms, images, strict=True))


def layer(path: str, data: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(path)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


@pytest.fixture
def store(registry: Registry) -> Store:
    return Store(registry)


@pytest.fixture
def pull(tmp_path: Path) -> Downloads:
    return fresh(tmp_path)


def fresh(tmp_path: Path, cache: str = "cache") -> Downloads:
    where, show = Cache(tmp_path / cache), Plain(io.StringIO())
    return Downloads(Pins(tmp_path / FILE, where, show), where, show, HURRY)


def get(name: str, pull: Downloads, arch: str = "arm64") -> Archive:
    [found] = containers.obtain([name], arch, pull)
    return found


def contents(archive: Archive) -> dict[str, bytes]:
    with tarfile.open(archive.path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@contextmanager
def containerd(folder: Path) -> Iterator[list[str]]:
    """Run the real containerd, without what runs containers; yield how its client is called."""
    binary, client = (program("containerd", f"usr/bin/{name}") for name in ("containerd", "ctr"))
    folder.mkdir()
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\n  address = "{folder}/sock"\n[ttrpc]\n  address = "{folder}/ttrpc"\n'
    )
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen([binary, "--config", config], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 20
        while not (folder / "sock").exists():
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.05)
        yield [str(client), "--address", str(folder / "sock"), "--namespace", "k8s.io", "images"]
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("style", [OCI, DOCKER], ids=["oci", "docker"])
def test_containerd_imports_what_was_pulled_under_the_name_that_pods_use(
    store: Store, pull: Downloads, tmp_path: Path, style: str
) -> None:
    images = store.many("v1", style)
    archive = get(f"{store.image}:v1", pull)
    with containerd(tmp_path / "d") as ctr:
        for words in (["--no-unpack"], ["--no-unpack", "--all-platforms"]):  # k3s asks for all platforms
            done = subprocess.run(
                [*ctr, "import", *words, archive.path], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        listed = subprocess.run([*ctr, "ls"], capture_output=True, text=True, check=True).stdout
        assert f"{store.image}:v1" in listed
        assert images["linux/arm64/v8"]["digest"] in listed
        assert "linux/arm64" in listed
        checked = subprocess.run([*ctr, "check"], capture_output=True, text=True, check=True).stdout
        assert "complete (3/3)" in checked, "a part of the image is missing"


def test_an_image_with_a_digest_is_known_by_it_and_by_its_tag(
    store: Store, pull: Downloads, tmp_path: Path
) -> None:
    store.many("v1")
    get(f"{store.image}:v1", pull)
    digest = pull.pins.get(store.image, "v1")
    archive = get(f"{store.image}:v1@sha256:{digest}", fresh(tmp_path, "another"))
    named = [
        one["annotations"]["io.containerd.image.name"]
        for one in json.loads(contents(archive)["index.json"])["manifests"]
    ]
    assert named == [f"{store.image}:v1", f"{store.image}@sha256:{digest}"]


def test_each_architecture_gets_its_own_image_and_nothing_of_the_others(
    store: Store, pull: Downloads
) -> None:
    images = store.many("v1")
    for name, platform in (("arm64", "linux/arm64/v8"), ("armhf", "linux/arm/v7")):
        archive = get(f"{store.image}:v1", pull, name)
        arch.check_images(archive.path, name)
        found = contents(archive)
        assert len(found) == 6  # layout, index, manifest, configuration, two layers
        assert f"blobs/{images[platform]['digest'].replace(':', '/')}" in found
        for path, data in found.items():
            if path.startswith("blobs/"):
                assert path == f"blobs/sha256/{sha256(data)}"
    assert not list((pull.cache.root / "containers/layers").iterdir())


def test_a_board_of_32_bits_takes_an_older_image_where_there_is_no_better(
    store: Store, pull: Downloads
) -> None:
    images = store.many("v1", platforms=("linux/arm/v6", "linux/amd64"))
    assert f"blobs/sha256/{images['linux/arm/v6']['digest'][7:]}" in contents(
        get(f"{store.image}:v1", pull, "armhf")
    )


@pytest.mark.parametrize("single", [True, False], ids=["one manifest", "an index"])
def test_an_image_for_other_processors_only_is_refused_with_those_it_is_for(
    store: Store, pull: Downloads, single: bool
) -> None:
    if single:
        store.one("linux/amd64", tag="v1")
    else:
        store.many("v1", platforms=("linux/amd64", "linux/s390x"))
    with pytest.raises(
        FetchError, match=r"image .*controller:v1: there is no image for linux/arm64, only for linux/amd64"
    ):
        get(f"{store.image}:v1", pull)


def test_an_image_without_an_index_is_taken_by_what_its_configuration_says(
    store: Store, pull: Downloads
) -> None:
    image = store.one("linux/arm64", tag="v1")
    assert f"blobs/sha256/{image['digest'][7:]}" in contents(get(f"{store.image}:v1", pull))


def test_a_second_run_asks_nobody(store: Store, pull: Downloads, tmp_path: Path) -> None:
    store.many("v1")
    store.one("linux/arm64", tag="v2")
    names = [f"{store.image}:v1", f"{store.image}:v2"]
    first = containers.obtain(names, "arm64", pull)
    store.registry.stop()
    assert containers.obtain(names, "arm64", fresh(tmp_path)) == first


def test_a_tag_that_was_moved_stays_what_it_was_and_says_so_when_that_is_gone(
    store: Store, pull: Downloads, tmp_path: Path
) -> None:
    store.many("v1")
    first = get(f"{store.image}:v1", pull)
    pinned = pull.pins.get(store.image, "v1")
    assert f"{store.image} v1 {pinned}\n" in (tmp_path / FILE).read_text()
    store.many("v1")
    assert get(f"{store.image}:v1", fresh(tmp_path, "another")) == containers.Archive(
        first.file_name, fresh(tmp_path, "another").cache.root / "containers" / first.path.name, first.sha256
    )
    store.ask("DELETE", f"/v2/{store.name}/manifests/sha256:{pinned}", b"")
    store.registry.stop()
    store.registry.start()
    with pytest.raises(FetchError, match=rf"404 .*addons.lock has it as sha256:{pinned}") as caught:
        get(f"{store.image}:v1", fresh(tmp_path, "third"))
    assert f"remove the line `{store.image} v1 ...`" in caught.value.hint


def test_a_pull_that_is_cut_off_goes_on_with_the_layers_that_are_missing(
    store: Store, tmp_path: Path
) -> None:
    store.one("linux/arm64", tag="v1", noise=3_000_000)
    with Gate(store.registry, faults=[0, 0, CUT, CUT, CUT, CUT, CUT, CUT]) as gate:
        name = f"{gate.address}/{store.name}:v1"
        pull = fresh(tmp_path)
        with pytest.raises(FetchError, match="gave up after 3 attempts"):
            get(name, pull)
        assert not list(pull.cache.root.glob("containers/*.tar"))
        # another repository's image has that layer, too, and takes nothing away when it is packed meanwhile
        other = Store(store.registry, "metallb/speaker")
        other.one("linux/arm64", tag="v1")
        get(f"{other.image}:v1", fresh(tmp_path))
        assert len(list((pull.cache.root / "containers/layers").glob("*/*"))) == 1
        before = store.registry.downloads()
        gate.faults.clear()
        get(name, fresh(tmp_path))
        assert store.registry.downloads() == before + 1


def test_a_layer_that_is_not_what_the_manifest_says_is_refused(store: Store, pull: Downloads) -> None:
    store.one("linux/arm64", tag="v1")
    data = layer("etc/shared", b"the same")
    store.registry.blob(sha256(data)).write_bytes(data[:-1] + b"x")
    with pytest.raises(VerificationError, match="for a layer") as caught:
        get(f"{store.image}:v1", pull)
    assert "push again" not in caught.value.hint
    assert not list(pull.cache.root.glob("containers/*.tar"))


def test_the_same_image_gives_the_same_archive(store: Store, pull: Downloads, tmp_path: Path) -> None:
    store.many("v1")
    assert (
        get(f"{store.image}:v1", pull).sha256 == get(f"{store.image}:v1", fresh(tmp_path, "another")).sha256
    )


def test_what_is_no_image_is_said(store: Store, pull: Downloads, tmp_path: Path) -> None:
    store.manifest(
        {"config": store.blob(b"{}", "application/vnd.cncf.helm.config.v1+json")}, MANIFEST[OCI], "v1"
    )
    with pytest.raises(FetchError, match="no container image"):
        get(f"{store.image}:v1", pull)
    assert not (tmp_path / FILE).exists()
    with pytest.raises(FetchError, match="404"):
        get(f"{store.image}:v2", pull)


@pytest.mark.parametrize(
    ("text", "host", "known_as"),
    [
        ("busybox", "registry-1.docker.io", ["docker.io/library/busybox:latest"]),
        ("busybox:1.37", "registry-1.docker.io", ["docker.io/library/busybox:1.37"]),
        ("docker.io/busybox:1", "registry-1.docker.io", ["docker.io/library/busybox:1"]),
        ("rancher/klipper-helm:v0.9", "registry-1.docker.io", ["docker.io/rancher/klipper-helm:v0.9"]),
        ("quay.io/a/b:v1", "quay.io", ["quay.io/a/b:v1"]),
        ("localhost:5000/a", "localhost", ["localhost:5000/a:latest"]),
        (f"ghcr.io/a/b@sha256:{'0' * 64}", "ghcr.io", [f"ghcr.io/a/b@sha256:{'0' * 64}"]),
        (f"ghcr.io/a/b:v1@sha256:{'0' * 64}", "ghcr.io", ["ghcr.io/a/b:v1", f"ghcr.io/a/b@sha256:{'0' * 64}"]),
    ],
)  # fmt: skip
def test_names_mean_what_docker_takes_them_for(text: str, host: str, known_as: list[str]) -> None:
    found = Name.parse(text)
    assert (found.reference.host, list(found.known_as)) == (host, known_as)


@pytest.mark.parametrize("text", ["", "Busybox", "a b", "quay.io/a/b:v1@sha512:00", "quay.io/"])
def test_what_is_no_name_is_refused(text: str, pull: Downloads) -> None:
    with pytest.raises(PibakeError, match="is not the name of a container image"):
        containers.obtain([text], "arm64", pull)
