"""Sharing images through a real registry: what comes is what was pushed, whatever happens on the way."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools import command
from tests.tools.httpd import Server, Status
from tests.tools.images import MIB, tool
from tests.tools.registryd import CUT, Gate, Registry

from pibake import inventory
from pibake.bases import Base
from pibake.cache import Cache
from pibake.errors import FetchError, PibakeError, VerificationError
from pibake.image.golden import Payload, PayloadFile, golden
from pibake.progress import Silent
from pibake.share.pull import Pulled, pull
from pibake.share.push import Pushed, push
from pibake.share.reference import Reference
from pibake.share.transport import Session, is_loopback
from pibake.web import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE = 256 * 1024
QUICK = Policy(attempts=3, backoff=0.05, connect=5, read=5)
KEY = f"golden@{'a' * 32}"
PASSWORD = "corret-horse-battery"
HTPASSWD = "me:$2y$04$qk2VubViRtdCfE6PRtUDU.Fi1gP6NSenPQn.2a/HgUXWTxhoBNDv."
"""Of that password, by bcrypt: the one way docker-registry knows."""
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "builder")


@pytest.fixture
def station(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "station")


@pytest.fixture
def lab(registry: Registry) -> Reference:
    return Reference.parse(f"{registry.address}/pibake/lab")


def keep(cache: Cache, data: dict[int, bytes], *, key: str = KEY, length: int = 8 * MIB, **info: Any) -> str:
    """Put an image with data at some places, and holes between them, into a cache; return its sha256."""
    temp = cache.partial / "made.img"
    with temp.open("wb") as file:
        file.truncate(length)
        for offset, block in data.items():
            file.seek(offset)
            file.write(block)
    sha256 = hashlib.sha256(temp.read_bytes()).hexdigest()
    facts = {
        "name": "golden image of small",
        "created": 1,
        "obtained": 1,
        "parts": {},
        "base": "0" * 64,
        **info,
    }
    cache.keep(key, temp, sha256, facts, Silent())
    return sha256


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)  # noqa: S311 - noise, not a secret


def some(cache: Cache, **info: Any) -> str:
    """Keep an image of 12 pieces of noise, and holes."""
    return keep(cache, {0: noise(MIB), 4 * MIB: noise(2 * MIB, 2)}, **info)


def send(lab: Reference, cache: Cache, *images: str, **options: Any) -> Pushed:
    return push(
        lab,
        images,
        options.pop("deltas", {}),
        cache,
        Silent(),
        **{"piece": PIECE, "policy": QUICK, **options},
    )


def receive(lab: Reference, station: Cache) -> Pulled:
    return pull(lab, station.root / "out", station, Silent(), policy=QUICK)


class Hook(Silent):
    """Progress that does something once so many bytes have moved."""

    def __init__(self, after: float, action: Callable[[], object]) -> None:
        self.after, self.action, self.done = after, action, False

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "B") -> Iterator[Hook]:  # noqa: ARG002
        yield self

    def update(self, completed: float, *, total: float | None = None, note: str | None = None) -> None:  # noqa: ARG002
        if completed >= self.after and not self.done:
            self.done = True
            self.action()


def test_what_is_pulled_is_what_was_pushed_byte_by_byte_with_its_holes(
    lab: Reference, cache: Cache, station: Cache
) -> None:
    sha256 = some(cache)
    pushed = send(lab, cache, sha256)
    pulled = receive(lab, station)
    assert (pulled.digest, pulled.artifact) == (pushed.digest, pushed.artifact)
    image = station.trusted(sha256, Silent())
    assert image is not None
    assert image.read_bytes() == cache.path(sha256).read_bytes()
    assert image.stat().st_blocks * 512 <= 3 * MIB + 64 * 1024
    assert len(pushed.artifact.images[0].pieces) == 12, "pieces of holes only have no blob"
    assert not list(station.partial.iterdir())


def test_pruning_keeps_what_was_pulled_although_no_node_was_made_from_it_here(
    lab: Reference, cache: Cache, station: Cache
) -> None:
    sha256 = some(cache)
    send(lab, cache, sha256)
    receive(lab, station)
    inventory.prune(station, Silent(), everything=False, dry_run=False)
    inventory.prune(cache, Silent(), everything=False, dry_run=False)
    assert station.path(sha256).exists()
    assert not cache.path(sha256).exists()


def test_a_second_push_sends_nothing_and_gives_the_same_digest(
    lab: Reference, cache: Cache, registry: Registry
) -> None:
    sha256 = some(cache)
    first = send(lab, cache, sha256)
    before = registry.uploads()
    second = send(lab, cache, sha256)
    assert (second.digest, second.sent) == (first.digest, 0)
    assert registry.uploads() == before == 12 + 1
    assert first.sent > 3 * MIB


def test_golden_images_of_one_base_share_its_pieces(lab: Reference, cache: Cache, registry: Registry) -> None:
    base = keep(cache, {0: noise(2 * MIB)}, key="debian-13@0123", name="debian-13")
    made = keep(cache, {0: noise(2 * MIB), MIB: b"other"}, base=base)
    pushed = send(lab, cache, made)
    assert [image.sha256 for image in pushed.artifact.images] == [made, base], "the base comes along"
    assert registry.uploads() == 8 + 1 + 1


def test_a_station_with_the_same_base_and_payload_does_not_make_the_golden_image_again(
    lab: Reference, cache: Cache, station: Cache, small_base: Path, tmp_path: Path
) -> None:
    source = tmp_path / "base.img"
    source.write_bytes(small_base.read_bytes())
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    info = {"name": "small", "created": 1_700_000_000, "obtained": 5}
    cache.keep("small@1", source, sha256, info, Silent())
    base = Base(cache.path(sha256), sha256, "small", 1_700_000_000, info)
    file = tmp_path / "k3s"
    file.write_bytes(noise(MIB))
    payload = Payload(
        (PayloadFile("usr/local/bin/k3s", file, 0o755, hashlib.sha256(file.read_bytes()).hexdigest()),)
    )
    made = golden(base, payload, cache, Silent())
    push(lab, [made.sha256], {}, cache, Silent())  # in pieces of the size that is the default
    receive(lab, station)
    labels: list[str] = []

    class Listening(Silent):
        @contextmanager
        def task(self, label: str, *, total: float | None = None, unit: str = "B") -> Iterator[Any]:
            labels.append(label)
            with super().task(label, total=total, unit=unit) as task:
                yield task

    theirs = Base(station.path(sha256), sha256, "small", 1_700_000_000, station.pinned("small@1")["info"])
    found = golden(theirs, payload, station, Listening())
    assert (found.sha256, labels) == (made.sha256, [])


def test_a_golden_image_of_a_file_is_found_on_hosts_that_do_not_have_the_file(
    lab: Reference, cache: Cache, station: Cache
) -> None:
    sha256 = some(cache, key=f"file@{'b' * 32}", path="/home/me/card.img", name="card.img")
    send(lab, cache, sha256)
    receive(lab, station)
    ((key, pin),) = station.pins().items()
    assert key == f"file@{sha256[:32]}"
    assert "path" not in pin["info"]


def test_a_pull_by_digest_gets_just_that(lab: Reference, cache: Cache, station: Cache) -> None:
    old = send(lab, cache, some(cache))
    send(lab, cache, keep(cache, {0: b"newer"}, key=f"golden@{'b' * 32}"))
    name = Reference.parse(f"{lab.registry}/{lab.repository}@{old.digest}")
    assert receive(name, station).artifact == old.artifact


def test_a_second_pull_asks_for_no_piece(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    send(lab, cache, some(cache))
    receive(lab, station)
    before = registry.downloads()
    receive(lab, station)
    assert registry.downloads() == before + 1, "the config only"


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.tools.test_share import QUICK, Hook
from pibake.cache import Cache
from pibake.share.{way} import {way}
from pibake.share.reference import Reference
lab, cache, die, image = Reference.parse(sys.argv[1]), Cache(Path(sys.argv[2])), float(sys.argv[3]), sys.argv[4]
hook = Hook(die, lambda: os.kill(os.getpid(), signal.SIGKILL))
{call}
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
PUSH = CHILD.format(
    way="push", call="push(lab, [image], {}, cache, hook, piece=int(sys.argv[5]), policy=QUICK)"
)
PULL = CHILD.format(way="pull", call="pull(lab, cache.root / 'out', cache, hook, policy=QUICK)")


def child(
    code: str, lab: Reference, cache: Cache, image: str, *, die: float = 1e18, piece: int = PIECE
) -> subprocess.CompletedProcess[str]:
    # a shell's background job has SIGINT ignored
    argv = ["env", "--default-signal=INT", sys.executable, "-c", code]
    argv += [str(lab), str(cache.root), str(die), image, str(piece)]
    root = Path(__file__).parents[2]
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False, timeout=60)


def test_a_push_that_is_killed_sends_only_the_rest_the_next_time(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    sha256 = some(cache)
    killed = child(PUSH, lab, cache, sha256, die=1.6 * MIB)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = registry.uploads()
    assert 4 <= before <= 8
    with pytest.raises(FetchError, match=r"404"):
        receive(lab, station)
    send(lab, cache, sha256)
    assert registry.uploads() <= 12 + 1 + 2, "all but what was on its way"
    assert receive(lab, station).artifact.images[0].sha256 == sha256


def test_a_push_goes_on_where_the_registry_ended(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    sha256 = some(cache)
    with pytest.raises(FetchError, match="gave up after 3 attempts"):
        push(lab, [sha256], {}, cache, Hook(1.6 * MIB, registry.stop), piece=PIECE, policy=QUICK)
    before = registry.uploads()
    assert before >= 4
    registry.start()
    send(lab, cache, sha256)
    # the registry may have kept a blob and ended before it noted so
    assert registry.uploads() <= 12 + 1
    assert receive(lab, station).artifact.images[0].sha256 == sha256


def test_a_pull_that_is_killed_asks_only_for_the_rest_the_next_time(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    sha256 = some(cache)
    send(lab, cache, sha256)
    killed = child(PULL, lab, station, sha256, die=1.6 * MIB)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = registry.downloads()
    assert not station.pins()
    receive(lab, station)
    assert registry.downloads() - before <= 12 - 4 + 1
    assert station.path(sha256).read_bytes() == cache.path(sha256).read_bytes()


def test_a_pull_goes_on_where_the_registry_ended(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    sha256 = some(cache)
    send(lab, cache, sha256)
    with pytest.raises(FetchError, match="gave up after 3 attempts"):
        pull(lab, station.root, station, Hook(1.6 * MIB, registry.stop), policy=QUICK)
    registry.start()
    before = registry.downloads()
    receive(lab, station)
    assert registry.downloads() - before <= 12 - 4 + 1
    assert station.trusted(sha256, Silent())


def test_what_was_damaged_in_partial_meanwhile_is_fetched_again(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    sha256 = some(cache)
    send(lab, cache, sha256)
    with pytest.raises(FetchError):
        pull(lab, station.root, station, Hook(1.6 * MIB, registry.stop), policy=QUICK)
    (part,) = station.partial.glob("*.img")
    with part.open("r+b") as file:
        file.write(b"x" * 100)
        file.seek(4 * MIB)
        file.write(b"x" * 100)
    registry.start()
    receive(lab, station)
    assert station.path(sha256).read_bytes() == cache.path(sha256).read_bytes()


def test_a_connection_that_breaks_and_a_busy_registry_are_tried_again(
    cache: Cache, station: Cache, registry: Registry
) -> None:
    sha256 = some(cache)
    with Gate(registry, faults=[503, 0, 500, 0, 0, 429]) as gate:
        through = Reference.parse(f"{gate.address}/pibake/lab")
        send(through, cache, sha256)
        gate.faults[:] = [0, CUT, 502, CUT]
        receive(through, station)
        assert not gate.faults
    assert station.path(sha256).read_bytes() == cache.path(sha256).read_bytes()


@pytest.mark.parametrize("cut", [False, True])
def test_a_blob_that_the_registry_has_damaged_is_named_and_nothing_gets_into_the_cache(
    lab: Reference, cache: Cache, station: Cache, registry: Registry, cut: bool
) -> None:
    pushed = send(lab, cache, some(cache))
    piece = pushed.artifact.images[0].pieces[5]
    blob = registry.blob(piece.blob.sha256)
    blob.write_bytes(blob.read_bytes()[:1000] if cut else blob.read_bytes()[:-1] + b"?")
    with pytest.raises(
        VerificationError, match=f"bytes {piece.start} to {piece.end} of golden.*{piece.blob.sha256}"
    ):
        receive(lab, station)
    assert not station.pins()
    assert not station.digests()


def test_a_manifest_that_lies_about_the_whole_image_is_found_out(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    pushed = send(lab, cache, some(cache))
    image = pushed.artifact.images[0]
    tamper(registry, lab, lambda text: text.replace(image.sha256, "0" * 64))
    with pytest.raises(VerificationError, match="put together from its pieces"):
        receive(lab, station)
    assert not station.digests()
    assert not list(station.partial.iterdir())


def test_a_piece_that_unpacks_to_something_else_is_not_kept(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    piece = send(lab, cache, some(cache)).artifact.images[0].pieces[3]
    tamper(registry, lab, lambda text: text.replace(piece.sha256, "0" * 64))
    with pytest.raises(
        VerificationError, match=f"the content of bytes {piece.start} to {piece.end} of golden"
    ):
        receive(lab, station)
    assert not station.digests()
    assert not list(station.partial.glob("*.img"))


@pytest.mark.parametrize(
    "change",
    [
        (KEY, "../../../etc/x", "no name in the cache"),
        ('"length": 8388608', '"length": -1', "bytes"),
        ('io.pibake.end": "262144"', 'io.pibake.end": "99999999999"', "out of order"),
        ("vnd.pibake.golden.v1+json", "vnd.oci.image.config.v1+json", "holds no images of pibake's"),
        ('"layers"', '"lairs"', "is damaged"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    lab: Reference, cache: Cache, station: Cache, registry: Registry, change: tuple[str, str, str]
) -> None:
    old, new, says = change
    send(lab, cache, some(cache))
    tamper(registry, lab, lambda text: text.replace(old, new))
    with pytest.raises(FetchError, match=says):
        receive(lab, station)
    assert not station.pins()


def tamper(registry: Registry, lab: Reference, change: Callable[[str], str]) -> None:
    """Put a manifest and config in the place of those under the tag, as somebody may who has the right to push."""
    import requests

    url = f"http://{registry.address}/v2/{lab.repository}"
    kind = "application/vnd.oci.image.manifest.v1+json"
    old = requests.get(f"{url}/manifests/{lab.tag}", headers={"Accept": kind}, timeout=5).json()
    config = requests.get(f"{url}/blobs/{old['config']['digest']}", timeout=5).text
    new = change(config).encode()
    digest = f"sha256:{hashlib.sha256(new).hexdigest()}"
    place = requests.post(f"{url}/blobs/uploads/", timeout=5).headers["Location"]
    requests.put(f"{place}&digest={digest}", data=new, timeout=5).raise_for_status()
    old["config"] |= {"digest": digest, "size": len(new)}
    manifest = change(json.dumps(old))
    requests.put(
        f"{url}/manifests/{lab.tag}", data=manifest, headers={"Content-Type": kind}, timeout=5
    ).raise_for_status()


def test_a_tag_that_is_not_there_is_said_to_be_missing(lab: Reference, station: Cache) -> None:
    with pytest.raises(
        FetchError, match=r"404 Not Found when asked for .*/pibake/lab:latest: MANIFEST_UNKNOWN"
    ) as caught:
        receive(lab, station)
    assert "pibake push" in caught.value.hint


def test_a_blob_that_is_gone_is_said_to_be_missing(
    lab: Reference, cache: Cache, station: Cache, registry: Registry
) -> None:
    pushed = send(lab, cache, some(cache))
    registry.blob(pushed.artifact.images[0].pieces[0].blob.sha256).unlink()
    with pytest.raises(FetchError, match=r"404 .*bytes 0 to 262144 of golden image"):
        receive(lab, station)


def test_what_is_no_registry_is_called_that(station: Cache, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    site = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port), "-d", tmp_path],
        stderr=subprocess.DEVNULL,
    )
    try:
        patient = Policy(attempts=8, backoff=0.1)
        with pytest.raises(FetchError, match="it is no OCI registry"):
            pull(Reference.parse(f"127.0.0.1:{port}/a"), tmp_path, station, Silent(), policy=patient)
    finally:
        site.kill()
        site.wait()
    with pytest.raises(FetchError, match="Connection refused"):
        receive(Reference.parse(f"127.0.0.1:{port}/a"), station)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Registry]:
    """A registry that wants a password."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "htpasswd").write_text(f"{HTPASSWD}\n")
    with Registry(folder, htpasswd=folder / "htpasswd") as running:
        yield running


def log_in(monkeypatch: pytest.MonkeyPatch, home: Path, address: str, password: str) -> None:
    (home / ".docker").mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"me:{password}".encode()).decode()
    (home / ".docker/config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))
    monkeypatch.setenv("HOME", str(home))


def in_environment(monkeypatch: pytest.MonkeyPatch, home: Path, address: str, password: str) -> None:  # noqa: ARG001
    monkeypatch.setenv("PIBAKE_REGISTRY_USER", "me")
    monkeypatch.setenv("PIBAKE_REGISTRY_PASSWORD", password)


@pytest.mark.parametrize("tell", [log_in, in_environment])
def test_the_right_password_opens_a_registry_and_a_wrong_or_missing_one_does_not(
    locked: Registry, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    lab, home = Reference.parse(f"{locked.address}/lab"), tmp_path / "home"
    sha256 = some(cache)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FetchError, match="refuses access") as caught:
        send(lab, cache, sha256)
    assert "docker login" in caught.value.hint
    tell(monkeypatch, home, locked.address, "wrong-one")
    with pytest.raises(FetchError, match=r"refuses access to lab .401") as caught:
        send(lab, cache, sha256)
    assert "wrong-one" not in f"{caught.value} {caught.value.hint}"
    tell(monkeypatch, home, locked.address, PASSWORD)
    send(lab, cache, sha256)
    assert receive(lab, Cache(tmp_path / "station")).artifact.images[0].sha256 == sha256


def test_tokens_are_got_for_reading_and_for_writing(
    registry: Registry, cache: Cache, station: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate(registry, user="me", password=PASSWORD) as gate:
        lab = Reference.parse(f"{gate.address}/pibake/lab")
        log_in(monkeypatch, tmp_path, gate.address, "wrong-one")
        with pytest.raises(FetchError, match="refuses access"):
            send(lab, cache, some(cache))
        log_in(monkeypatch, tmp_path, gate.address, PASSWORD)
        pushed = send(lab, cache, some(cache))
        assert {"pull", "push"} == set(gate.granted)
        assert receive(lab, station).digest == pushed.digest


def test_deltas_come_along_readable_by_their_owner_only(
    lab: Reference, cache: Cache, station: Cache, tmp_path: Path
) -> None:
    sha256 = some(cache)
    file = tmp_path / "node3.delta"
    file.write_bytes(b"token")
    pushed = send(lab, cache, sha256, deltas={file: sha256})
    (got,) = receive(lab, station).deltas
    assert (got.name, got.read_bytes()) == ("node3.delta", file.read_bytes())
    assert got.stat().st_mode & 0o777 == 0o600
    assert pushed.artifact.deltas[0].image == sha256


def test_a_file_that_no_station_would_take_for_a_delta_is_not_pushed(
    lab: Reference, cache: Cache, tmp_path: Path
) -> None:
    sha256 = some(cache)
    with pytest.raises(PibakeError, match="is not named like a delta"):
        send(lab, cache, sha256, deltas={tmp_path / "node3 (1).delta": sha256})


def test_a_delta_is_not_pushed_without_the_image_that_it_needs(
    lab: Reference, cache: Cache, tmp_path: Path, registry: Registry
) -> None:
    file = tmp_path / "node3.delta"
    file.write_bytes(b"token")
    with pytest.raises(PibakeError, match=r"node3\.delta needs the image ffff"):
        send(lab, cache, some(cache), deltas={file: "f" * 64})
    assert not registry.uploads()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "[::1]"])
def test_plain_http_is_spoken_within_this_host(host: str) -> None:
    assert is_loopback(Reference.parse(f"{host}:5000/lab").host)


@pytest.mark.parametrize("host", ["192.168.1.2", "registry.lab", "localhost.example", "0.0.0.0", "[fe80::1]"])  # noqa: S104
def test_nothing_is_sent_over_plain_http_to_another_host(host: str) -> None:
    assert not is_loopback(Reference.parse(f"{host}:5000/lab").host)
    with pytest.raises(FetchError, match="no place for secrets"):
        Session(QUICK).get(f"http://{host}:5000/v2/")


def test_a_registry_with_a_certificate_of_ones_own_is_trusted_by_its_authority(
    cache: Cache, station: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "secure"
    folder.mkdir()
    pem = folder / "both.pem"
    tool("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=lab", "-addext", "subjectAltName=DNS:registry.lab", "-keyout", folder / "key", "-out", folder / "crt")  # fmt: skip
    pem.write_bytes((folder / "crt").read_bytes() + (folder / "key").read_bytes())
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *a, **k: real("127.0.0.1" if host == "registry.lab" else host, *a, **k),
    )
    with Registry(folder, certificate=pem) as secure:
        lab = Reference.parse(f"registry.lab:{secure.port}/lab")
        with pytest.raises(FetchError, match="no secure connection") as caught:
            send(lab, cache, some(cache))
        assert "REQUESTS_CA_BUNDLE" in caught.value.hint
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "crt"))
        pushed = send(lab, cache, some(cache))
        assert receive(lab, station).digest == pushed.digest


@pytest.mark.parametrize(
    "text",
    [
        "lab",
        "docker/lab",
        "here:5000/Lab",
        "http://here:5000/lab",
        "a.b/c:t:u",
        "a.b/../c",
        "a.b/c@sha256:12",
    ],
)
def test_what_is_no_name_of_a_repository_is_refused(text: str) -> None:
    with pytest.raises(PibakeError, match="not the name of a repository"):
        Reference.parse(text)


def test_a_push_that_is_interrupted_ends_soon_and_leaves_nothing(lab: Reference, cache: Cache) -> None:
    sha256 = some(cache)
    done = child(PUSH.replace("SIGKILL", "SIGINT"), lab, cache, sha256, die=1.6 * MIB)
    assert "KeyboardInterrupt" in done.stderr
    assert not list(cache.partial.iterdir())


def test_a_redirection_to_where_others_can_listen_is_not_followed() -> None:
    with Server() as server:
        server.add("v2/", b"", Status(307, {"Location": "http://192.0.2.1/blob"}))
        with pytest.raises(FetchError, match=r"http://192\.0\.2\.1 is no place for secrets"):
            Session(QUICK).get(f"{server.url}v2/")


def test_credentials_that_cannot_be_read_are_said_so_and_not_shown(
    locked: Registry, station: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, tmp_path, locked.address, PASSWORD)
    config = tmp_path / ".docker/config.json"
    config.write_text(config.read_text()[:-3])
    with pytest.raises(PibakeError, match=r"~/\.docker/config\.json cannot be read$"):
        receive(Reference.parse(f"{locked.address}/lab"), station)


def test_no_way_takes_much_memory(lab: Reference, cache: Cache, station: Cache) -> None:
    sha256 = keep(cache, {0: noise(64 * MIB), 128 * MIB: noise(64 * MIB, 2)}, length=256 * MIB)
    for code, where in ((PUSH, cache), (PULL, station)):
        done = child(code, lab, where, sha256, piece=64 * MIB)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 120 * 1024
    assert station.trusted(sha256, Silent())


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a small disk."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
def test_a_disk_that_is_too_small_is_noticed_before_anything_is_fetched(
    lab: Reference, cache: Cache, registry: Registry, tmp_path: Path
) -> None:
    send(lab, cache, some(cache))
    with disk(tmp_path / "small", "2m") as small:
        with pytest.raises(PibakeError, match=r"3\.0 MiB are needed to pull golden image of small"):
            receive(lab, Cache(small))
        assert not Cache(small).digests()
    assert registry.downloads() == 1, "the config only"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
def test_a_disk_that_becomes_full_is_said_to_be_full_and_what_came_is_kept(
    lab: Reference, cache: Cache, registry: Registry, tmp_path: Path
) -> None:
    sha256 = some(cache)
    send(lab, cache, sha256)
    with disk(tmp_path / "small", "6m") as small:
        filler, station = small / "filler", Cache(small)

        def fill() -> None:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(64 * 1024)):
                    pass

        with pytest.raises(PibakeError, match="the disk is full: no room for"):
            pull(lab, small, station, Hook(1.6 * MIB, fill), policy=QUICK)
        filler.unlink()
        before = registry.downloads()
        receive(lab, station)
        assert registry.downloads() - before <= 12 - 4 + 1
        assert station.path(sha256).read_bytes() == cache.path(sha256).read_bytes()


def test_from_the_command_line_one_host_pushes_and_another_pulls(
    registry: Registry, small_base: Path, tmp_path: Path
) -> None:
    digest = hashlib.sha256(small_base.read_bytes()).hexdigest()
    (tmp_path / "cluster.yaml").write_text(
        f"cluster: lab\nnetwork: {{subnet: 192.168.1.0/24, gateway: 192.168.1.1}}\n"
        f"defaults: {{base: {{file: {small_base}, sha256: {digest}}}}}\n"
        f"users: [{{name: ops, ssh_keys: ['{SSH_KEY}']}}]\nnodes: [{{hostname: node3, address: 192.168.1.13/24}}]\n"
    )
    env = {**os.environ, "PIBAKE_REGISTRY_USER": "me", "PIBAKE_REGISTRY_PASSWORD": PASSWORD}
    here, there = ({**env, "XDG_CACHE_HOME": str(tmp_path / name)} for name in ("a", "b"))
    made = command.run("build", "--all", "--output", "delta", "-o", "deltas", env=here, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    name = f"{registry.address}/lab:monday"
    sent = command.run(
        "-v",
        "push",
        name,
        "--deltas",
        "deltas",
        "--json",
        env=here,
        cwd=tmp_path,
    )
    assert sent.returncode == 0, sent.stderr
    pushed = json.loads(sent.stdout)
    assert pushed["images"] == [
        {"name": small_base.name, "sha256": digest, "bytes": small_base.stat().st_size}
    ]
    got = command.run(
        "-v", "pull", f"{registry.address}/lab@{pushed['digest']}", "-o", "cards", env=there,
        cwd=tmp_path,
    )  # fmt: skip
    assert got.returncode == 0, got.stderr
    assert digest[:16] in got.stdout
    composed = command.run("compose", "cards/node3.delta", env=there, cwd=tmp_path)
    assert composed.returncode == 0, composed.stderr
    assert (tmp_path / "cards/node3.img").stat().st_size >= small_base.stat().st_size
    assert PASSWORD not in sent.stdout + sent.stderr + got.stdout + got.stderr
    assert Cache(tmp_path / "b/pibake").trusted(digest, Silent())
