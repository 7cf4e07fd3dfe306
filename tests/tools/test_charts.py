"""Charts from a chart repository, an OCI registry and the user's own files, and what is pinned where nobody vouches for them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.tools import sites
from tests.tools.httpd import Break, Ok, Server, Status
from tests.tools.registryd import Gate, Registry

from pibake import charts
from pibake.cache import Cache
from pibake.charts import content
from pibake.crew import Crew
from pibake.errors import FetchError, PibakeError, VerificationError
from pibake.offers import Remote
from pibake.pins import FILE, Downloads, Pins
from pibake.plan import ChartRef
from pibake.progress import Plain
from pibake.share.artifact import Blob
from pibake.share.reference import Reference
from pibake.share.registry import Repository
from pibake.web import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HURRY = Policy(attempts=3, backoff=0.01, longest=0.1, connect=2, read=1)
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"


def pack(name: str = "metallb", version: str = "0.16.1", noise: int = 0, **files: bytes) -> bytes:
    """Return a chart as `helm package` makes it."""
    packed = io.BytesIO()
    members = {
        f"{name}/Chart.yaml": yaml.safe_dump({"apiVersion": "v2", "name": name, "version": version}).encode(),
        f"{name}/values.yaml": b"{}\n",
        f"{name}/templates/noise": os.urandom(noise),
        **{f"{name}/{path}": data for path, data in files.items()},
    }
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, data in members.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Shop:
    """A chart repository as `helm repo index` lays it out: index.yaml, and archives beside it or elsewhere."""

    def __init__(self, server: Server) -> None:
        self.server, self.entries = server, {}  # type: ignore[var-annotated]

    @property
    def url(self) -> str:
        return f"{self.server.url}charts"

    def put(
        self, data: bytes, *acts: Status | Break, name: str = "metallb", version: str = "0.16.1", at: str = ""
    ) -> None:
        file = f"{name}-{version}.tgz"
        self.server.add(f"charts/{file}", data, *acts)
        one = {"apiVersion": "v2", "name": name, "version": version, "digest": sha256(data), "urls": [at or file],
               "created": "2026-08-01T00:00:00Z"}  # fmt: skip
        known = [other for other in self.entries.get(name, []) if other["version"] != version]
        self.entries[name] = [one, *known]
        index = {"apiVersion": "v1", "entries": self.entries, "generated": "2026-08-01T00:00:00Z"}
        self.server.add("charts/index.yaml", yaml.safe_dump(index).encode())

    def ref(self, **fields: str) -> ChartRef:
        return ChartRef(**{"name": "metallb", "repo": self.url, "version": "0.16.1", **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sites.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def shop(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Server(certificate) as server:
        yield Shop(server)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab").mkdir()
    return tmp_path / "lab"


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def source(lab: Path, tmp_path: Path, said: io.StringIO) -> Downloads:
    return fresh(lab, tmp_path / "cache", said)


def fresh(lab: Path, cache: Path, said: io.StringIO | None = None) -> Downloads:
    """Return what another run has, with this cache and this folder of cluster.yaml."""
    where, show = Cache(cache), Plain(said or io.StringIO())
    return Downloads(Pins(lab / FILE, where, show), where, show, HURRY)


def nothing_kept(source: Downloads) -> bool:
    return not list((source.cache.root / "charts").iterdir())


def test_a_chart_comes_from_where_the_index_says_once(shop: Shop, source: Downloads, lab: Path) -> None:
    data = pack()
    shop.put(data)
    ref = shop.ref(sha256=sha256(data))
    assert charts.chart("metallb", ref, source) == data
    assert charts.chart("metallb", ref, source) == data
    assert [request.path for request in shop.server.requests] == [
        "/charts/index.yaml",
        "/charts/metallb-0.16.1.tgz",
    ]
    assert not (lab / FILE).exists()


def test_an_index_may_name_another_place(shop: Shop, source: Downloads) -> None:
    data = pack()
    shop.server.add("elsewhere/x.tgz", data)
    shop.put(b"not this", at=f"{shop.server.url}elsewhere/x.tgz")
    assert charts.chart("metallb", shop.ref(sha256=sha256(data)), source) == data


def test_a_chart_other_than_the_one_that_is_vouched_for_is_refused(shop: Shop, source: Downloads) -> None:
    shop.put(pack())
    with pytest.raises(
        VerificationError, match=r"add-on metallb: the sha256 of https://.*metallb-0.16.1.tgz"
    ):
        charts.chart("metallb", shop.ref(sha256="0" * 64), source)
    assert nothing_kept(source)


def test_without_a_digest_the_first_that_comes_is_pinned_and_another_is_refused(
    shop: Shop, source: Downloads, lab: Path, tmp_path: Path, said: io.StringIO
) -> None:
    data, other = pack(), pack(noise=9)
    shop.put(data)
    assert charts.chart("lb", shop.ref(), source) == data
    lines = [line for line in (lab / FILE).read_text().splitlines() if not line.startswith("#")]
    assert lines == [f"lb 0.16.1 {sha256(data)}"]
    assert "trusted on first use" in said.getvalue()
    shop.put(other)
    again = io.StringIO()
    assert charts.chart("lb", shop.ref(), fresh(lab, tmp_path / "cache", again)) == data  # it is in the cache
    assert "first use" not in again.getvalue()
    elsewhere = fresh(lab, tmp_path / "another")
    with pytest.raises(VerificationError, match=r"add-on lb: lb 0.16.1 from https") as caught:
        charts.chart("lb", shop.ref(), elsewhere)
    assert (caught.value.expected, caught.value.got) == (sha256(data), sha256(other))
    assert "remove the line `lb 0.16.1 ...` from addons.lock" in caught.value.hint
    assert nothing_kept(elsewhere)
    (lab / FILE).unlink()
    assert charts.chart("lb", shop.ref(), fresh(lab, tmp_path / "another")) == other


def test_what_is_pinned_comes_from_a_warm_cache_without_any_network(
    shop: Shop, source: Downloads, lab: Path, tmp_path: Path
) -> None:
    data = pack()
    shop.put(data)
    charts.chart("metallb", shop.ref(), source)
    asked = len(shop.server.requests)
    assert (
        charts.chart("metallb", shop.ref(repo="https://127.0.0.1:1"), fresh(lab, tmp_path / "cache")) == data
    )
    assert len(shop.server.requests) == asked


def test_two_runs_that_want_one_chart_download_it_once(shop: Shop, lab: Path, tmp_path: Path) -> None:
    data = pack(noise=400_000)
    shop.put(data)
    shop.server.files["/charts/metallb-0.16.1.tgz"].then = Ok(rate=1_000_000)
    with ThreadPoolExecutor() as crew:
        first = crew.submit(charts.chart, "metallb", shop.ref(), fresh(lab, tmp_path / "cache"))
        deadline = time.monotonic() + 10
        while len(shop.server.requests) < 2:  # the first one is at it
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert charts.chart("metallb", shop.ref(), fresh(lab, tmp_path / "cache")) == data
        assert first.result() == data
    assert len(shop.server.requests) == 2


def test_nothing_is_pinned_that_came_over_plain_http(source: Downloads, lab: Path) -> None:
    with Server() as server:
        shop, data = Shop(server), pack()
        shop.put(data)
        with pytest.raises(FetchError, match="which is not https"):
            charts.chart("metallb", shop.ref(), source)
        assert not (lab / FILE).exists()
        assert charts.chart("metallb", shop.ref(sha256=sha256(data)), source) == data


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(shop: Shop, source: Downloads) -> None:
    data = pack(noise=400_000)
    shop.put(data, Break(150_000), Break(100_000))
    assert charts.chart("metallb", shop.ref(), source) == data
    ranges = [request.headers.get("Range") for request in shop.server.asked("charts/metallb-0.16.1.tgz")]
    assert ranges[0] is None
    assert len(ranges) == 3
    assert all(ranges[1:])


def test_a_chart_or_a_version_that_is_not_there_is_named_with_those_that_are(
    shop: Shop, source: Downloads
) -> None:
    for version in ("0.16.0", "0.16.1"):
        shop.put(pack(version=version), version=version)
    with pytest.raises(FetchError, match=r"no version 9.9.9 of metallb") as caught:
        charts.chart("metallb", shop.ref(version="9.9.9"), source)
    assert caught.value.hint == "it has 0.16.1, 0.16.0"
    with pytest.raises(FetchError, match=r"has no chart metalb") as caught:
        charts.chart("metallb", shop.ref(name="metalb"), source)
    assert caught.value.hint == "it has metallb"


@pytest.mark.parametrize(
    "index", [b"<html>not found</html>", b"a: [", b"entries: 7", b"entries: {metallb: [{version: 0.16.1}]}"]
)
def test_what_is_no_index_is_said(shop: Shop, source: Downloads, index: bytes) -> None:
    shop.server.add("charts/index.yaml", index)
    with pytest.raises(FetchError, match="is no index of charts"):
        charts.chart("metallb", shop.ref(), source)


@pytest.mark.parametrize(
    "data", [b"<html>", pack(noise=3000)[:2000], pack(version="0.16.2")], ids=["page", "cut short", "version"]
)
def test_what_is_no_chart_of_that_version_is_never_pinned(
    shop: Shop, source: Downloads, lab: Path, data: bytes
) -> None:
    shop.put(data)
    with pytest.raises(PibakeError, match=r"is no chart|is version 0.16.2 of the chart, not 0.16.1"):
        charts.chart("metallb", shop.ref(), source)
    assert nothing_kept(source)
    assert not (lab / FILE).exists()


def test_a_chart_that_no_object_can_hold_is_refused(shop: Shop, source: Downloads) -> None:
    shop.put(pack(noise=900_000))
    with pytest.raises(PibakeError, match="is what fits into an object"):
        charts.chart("metallb", shop.ref(), source)


# OCI registries


def push(registry: Registry, data: bytes, name: str = "charts/metallb", tag: str = "0.16.1_up1") -> str:
    """Push a chart as `helm push` does; return its repository's address without the chart's name."""
    repository = Repository(Reference.parse(f"{registry.address}/{name}:{tag}"), Crew(), HURRY)
    config = json.dumps({"apiVersion": "v2", "name": "metallb", "version": "0.16.1+up1"}).encode()
    for blob in (config, data):
        repository.put(Blob(sha256(blob), len(blob)), io.BytesIO(blob), lambda _: None)
    described = [{"mediaType": kind, "digest": f"sha256:{sha256(blob)}", "size": len(blob)}
                 for kind, blob in ((HELM_CONFIG, config), ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", data))]  # fmt: skip
    repository.put_manifest(
        json.dumps({"schemaVersion": 2, "config": described[0], "layers": described[1:]}).encode()
    )
    return name.rpartition("/")[0]


def test_a_chart_comes_from_a_public_registry_without_any_password(
    registry: Registry, source: Downloads, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pack(version="0.16.1+up1")
    folder = push(registry, data)
    monkeypatch.setenv("PIBAKE_REGISTRY_USER", "me")
    monkeypatch.setenv("PIBAKE_REGISTRY_PASSWORD", "for my own registry")
    with Gate(registry, anonymous=True) as gate:
        ref = ChartRef("metallb", f"oci://{gate.address}/{folder}", "0.16.1+up1")
        assert charts.chart("metallb", ref, source) == data
        assert not gate.told
    assert charts.chart("metallb", ref, source) == data  # the gate is closed
    assert f"metallb 0.16.1+up1 {sha256(data)}\n" in (lab / FILE).read_text()


def test_a_registry_that_holds_another_chart_than_is_vouched_for_or_pinned_is_refused(
    registry: Registry, source: Downloads, lab: Path, tmp_path: Path
) -> None:
    ref = ChartRef(
        "metallb", f"oci://{registry.address}/{push(registry, pack(version='0.16.1+up1'))}", "0.16.1+up1"
    )
    with pytest.raises(VerificationError, match="the sha256 of"):
        charts.chart("metallb", ChartRef(ref.name, ref.repo, ref.version, "0" * 64), source)
    charts.chart("metallb", ref, source)
    push(registry, pack(version="0.16.1+up1", noise=10))
    with pytest.raises(VerificationError, match="from oci://"):
        charts.chart("metallb", ref, fresh(lab, tmp_path / "another"))


def test_a_tag_that_holds_no_chart_and_one_that_is_not_there_are_said(
    registry: Registry, source: Downloads
) -> None:
    repository = Repository(Reference.parse(f"{registry.address}/charts/metallb:1"), Crew(), HURRY)
    repository.put(Blob(sha256(b"{}"), 2), io.BytesIO(b"{}"), lambda _: None)
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": f"sha256:{sha256(b'{}')}",
        "size": 2,
    }
    repository.put_manifest(json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode())
    repo = f"oci://{registry.address}/charts"
    with pytest.raises(FetchError, match="holds no chart"):
        charts.chart("metallb", ChartRef("metallb", repo, "1"), source)
    with pytest.raises(FetchError, match="404") as caught:
        charts.chart("metallb", ChartRef("metallb", repo, "2"), source)
    assert "pibake push" not in caught.value.hint


# manifests


def test_a_manifest_is_pinned_like_a_chart(shop: Shop, source: Downloads, lab: Path, tmp_path: Path) -> None:
    shop.server.add("standard-install.yaml", b"kind: List\n")
    remote = Remote(url=f"{shop.server.url}standard-install.yaml", version="v1.6.0")
    assert charts.manifest("gateway-api", remote, source) == b"kind: List\n"
    shop.server.add("standard-install.yaml", b"kind: Listing\n")
    assert charts.manifest("gateway-api", remote, source) == b"kind: List\n"
    with pytest.raises(VerificationError, match="add-on gateway-api"):
        charts.manifest("gateway-api", remote, fresh(lab, tmp_path / "another"))


# the user's own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "templates").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("x")
    (folder / "Chart.yaml").write_text("name: my-app\nversion: 1.2.3\n")
    (folder / "templates/x.yaml").write_text("kind: ConfigMap\n")
    return folder


def test_a_folder_is_packed_so_that_the_same_files_give_the_same_bytes(
    folder: Path, source: Downloads
) -> None:
    ref = ChartRef("my-app", file=folder)
    data = charts.chart("my-app", ref, source)
    os.utime(folder / "Chart.yaml", (1, 1))
    (folder / "templates/x.yaml").chmod(0o600)
    assert charts.chart("my-app", ref, source) == data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["my-app/Chart.yaml", "my-app/templates/x.yaml"]
    packed = folder.with_name("app.tgz")
    packed.write_bytes(data)
    assert content.packed(packed) == data
    assert content.described(data, "it") == {"name": "my-app", "version": "1.2.3"}


def test_a_folder_that_lacks_what_it_depends_on_is_refused(folder: Path) -> None:
    (folder / "Chart.yaml").write_text(
        "name: my-app\nversion: 1.2.3\ndependencies:\n- {name: redis, version: 1}\n"
    )
    with pytest.raises(PibakeError, match="needs the chart redis, which is not in its charts/") as caught:
        content.packed(folder)
    assert caught.value.hint == f"helm dependency build {folder}"
    (folder / "charts").mkdir()
    (folder / "charts/redis-1.2.3.tgz").write_bytes(pack("redis"))
    content.packed(folder)


@pytest.mark.parametrize("text", ["", "name: [", "name: my-app", "name: ../x\nversion: 1", "- a"])
def test_a_folder_without_a_sound_description_is_no_chart(folder: Path, text: str) -> None:
    (folder / "Chart.yaml").write_text(text)
    with pytest.raises(PibakeError, match="is no chart"):
        content.packed(folder)


# the lock file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 nothex\n", r"addons.lock:1: this is no line of a lock file"),
        (f"a 1 {'0' * 64}\n<<<<<<< HEAD\n", r"addons.lock:2: this is no line"),
        (f"a 1 {'0' * 64}\na 1 {'1' * 64}\n", r"addons.lock:2: this is pinned twice"),
    ],
)
def test_a_lock_file_that_is_damaged_is_said_at_its_line(
    source: Downloads, lab: Path, text: str, message: str
) -> None:
    (lab / FILE).write_text(text)
    with pytest.raises(PibakeError, match=message):
        source.pins.get("a", "1")


def test_pins_of_two_runs_are_both_kept(lab: Path, tmp_path: Path) -> None:
    one, two = (fresh(lab, tmp_path / "cache").pins for _ in range(2))
    assert one.get("a", "1") == two.get("b", "1") == ""
    one.settle("a", "1", "0" * 64, "here")
    two.settle("b", "1", "1" * 64, "here")
    assert {(name, fresh(lab, tmp_path / "cache").pins.get(name, "1")) for name in "ab"} == {
        ("a", "0" * 64),
        ("b", "1" * 64),
    }


def test_a_lock_file_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    source = fresh(tmp_path / "gone", tmp_path / "cache")
    with pytest.raises(PibakeError, match=r"addons.lock cannot be written") as caught:
        source.pins.settle("a", "1", "0" * 64, "here")
    assert "pibake build" in caught.value.hint
