"""Downloads from a server that misbehaves: each failure happens for real."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from tests.tools import images
from tests.tools.httpd import Act, Break, Ok, Server, Stall, Status

from pibake import fetch, ingest
from pibake.errors import FetchError, ImageError, PibakeError, VerificationError
from pibake.progress import Silent
from pibake.web import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tools.httpd import Resource

HURRIED = Policy(attempts=4, backoff=0.02, longest=3, connect=2, read=0.5)
MIB = 1 << 20


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Bench:
    """A server, an empty folder, and a download between them."""

    server: Server
    folder: Path
    image: bytes = field(repr=False)

    @property
    def target(self) -> Path:
        return self.folder / "base.img"

    @property
    def part(self) -> Path:
        return self.folder / "base.img.part"

    def get(self, name: str, sha256: str, policy: Policy = HURRIED) -> ingest.Ingested:
        url = f"{self.server.url}{name}"
        return ingest.from_url(url, sha256, self.target, origin="the test", progress=Silent(), policy=policy)

    def serve(self, *acts: Act, then: Act | None = None, form: str = "xz", ranges: bool = True) -> Resource:
        return self.server.add("a", images.pack(self.image, form), *acts, then=then, ranges=ranges)

    def check(self, made: ingest.Ingested) -> None:
        assert made.unpacked.sha256 == digest(self.image)
        assert digest(self.target.read_bytes()) == made.unpacked.sha256
        assert self.target.stat().st_blocks * 512 < 40 * MIB, "the holes were filled"

    def nothing_left(self) -> bool:
        return not self.target.exists() and not self.part.exists()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return images.make(tmp_path_factory.mktemp("image") / "card.img").read_bytes()


@pytest.fixture
def bench(tmp_path: Path, image: bytes) -> Iterator[Bench]:
    with Server() as server:
        yield Bench(server, tmp_path, image)


@pytest.mark.parametrize("form", images.FORMATS)
def test_every_format_is_told_by_its_first_bytes_and_unpacked(bench: Bench, form: str) -> None:
    data = bench.serve(form=form).data
    made = bench.get("a", digest(data))
    bench.check(made)
    assert made.unpacked.format == form
    assert made.stream_sha256 == digest(data)


@pytest.mark.parametrize("reset", [False, True], ids=["truncated body", "connection reset"])
@pytest.mark.parametrize("form", images.FORMATS)
def test_a_broken_download_goes_on_where_it_stopped(bench: Bench, form: str, reset: bool) -> None:
    first, second = (
        Break(count, reset, lambda until=until: bench.part.stat().st_size >= until)  # type: ignore[misc]
        for count, until in ((2 * MIB, 2 * MIB), (MIB // 2, 5 * MIB // 2))
    )
    data = bench.serve(first, second, form=form).data
    bench.check(bench.get("a", digest(data)))
    ranges = [request.headers.get("Range") for request in bench.server.asked("a")]
    assert ranges[0] is None
    assert all(ranges[1:])
    assert bench.server.sent == len(data)


def test_the_next_run_goes_on_where_a_hopeless_one_gave_up(bench: Bench) -> None:
    resource = bench.serve(Break(2 * MIB), then=Break(0))
    with pytest.raises(FetchError, match=r"gave up after 4 attempts"):
        bench.get("a", digest(resource.data))
    assert not bench.target.exists()
    assert bench.part.stat().st_size == 2 * MIB
    resource.then = Ok()
    bench.check(bench.get("a", digest(resource.data)))
    assert bench.server.sent == len(resource.data)


def test_a_complete_part_is_not_asked_for_again(bench: Bench) -> None:
    data = bench.serve().data
    bench.get("a", digest(data))
    bench.target.unlink()
    bench.check(bench.get("a", digest(data)))
    assert len(bench.server.asked("a")) == 1


def test_a_server_that_ignores_range_makes_it_start_over(bench: Bench) -> None:
    data = bench.serve(Break(2 * MIB), ranges=False).data
    bench.check(bench.get("a", digest(data)))
    assert len(bench.server.asked("a")) == 3  # broken, refused because it was all of it, taken


def test_a_server_that_ignores_range_and_always_breaks_is_given_up(bench: Bench) -> None:
    data = bench.serve(then=Break(MIB), ranges=False).data
    with pytest.raises(FetchError, match="gave up"):
        bench.get("a", digest(data))


def test_a_file_that_changed_meanwhile_is_never_glued_to_the_old_beginning(bench: Bench) -> None:
    resource = bench.serve(Break(2 * MIB), then=Break(0))
    with pytest.raises(FetchError):
        bench.get("a", digest(resource.data))
    new = images.pack(b"\0" * MIB + bench.image[MIB:], "xz")
    bench.server.add("a", new).etag = '"two"'
    made = bench.get("a", digest(new))
    assert made.stream_sha256 == digest(new)
    assert made.unpacked.sha256 == digest(bench.target.read_bytes())


def test_a_file_that_changed_is_refused_when_the_digest_is_of_the_old_one(bench: Bench) -> None:
    old = bench.serve(Break(2 * MIB)).data
    bench.server.files["/a"].etag = '"two"'
    bench.server.files["/a"].data = images.pack(b"\0" * MIB + bench.image[MIB:], "xz")
    with pytest.raises(VerificationError, match=digest(old)):
        bench.get("a", digest(old))
    assert bench.nothing_left()


def test_a_server_without_validators_is_resumed_and_the_digest_decides(bench: Bench) -> None:
    resource = bench.serve(Break(2 * MIB))
    resource.etag = ""
    bench.check(bench.get("a", digest(resource.data)))
    assert "If-Range" not in bench.server.asked("a")[1].headers


def test_a_part_damaged_on_disk_is_thrown_away_and_fetched_anew(bench: Bench) -> None:
    resource = bench.serve(Break(2 * MIB), *[Break(0)] * 3)
    with pytest.raises(FetchError):
        bench.get("a", digest(resource.data))
    with bench.part.open("r+b") as file:
        file.seek(MIB)
        file.write(b"damaged")
    bench.check(bench.get("a", digest(resource.data)))


def test_a_part_longer_than_the_file_is_thrown_away(bench: Bench) -> None:
    resource = bench.serve(Break(2 * MIB), *[Break(0)] * 3)
    with pytest.raises(FetchError):
        bench.get("a", digest(resource.data))
    with bench.part.open("ab") as file:
        file.write(resource.data)
    bench.check(bench.get("a", digest(resource.data)))


def test_two_answers_of_503_are_waited_out(bench: Bench) -> None:
    data = bench.serve(Status(503), Status(503)).data
    bench.check(bench.get("a", digest(data)))
    assert len(bench.server.asked("a")) == 3


def test_retry_after_is_honoured(bench: Bench) -> None:
    data = bench.serve(Status(429, {"Retry-After": "1"})).data
    started = time.monotonic()
    bench.check(bench.get("a", digest(data)))
    assert time.monotonic() - started >= 1


def test_a_server_that_asks_for_an_hour_is_not_waited_for(bench: Bench) -> None:
    bench.serve(Status(503, {"Retry-After": "3600"}))
    with pytest.raises(FetchError, match="come back in 3600 s"):
        bench.get("a", "0" * 64)


def test_404_is_reported_at_once(bench: Bench) -> None:
    with pytest.raises(FetchError, match=r"/missing: the server answered 404") as caught:
        bench.get("missing", "0" * 64)
    assert "Vendors remove files" in caught.value.hint
    assert len(bench.server.requests) == 1
    assert bench.nothing_left()


def test_a_silent_server_runs_into_the_time_out_and_is_asked_again(bench: Bench) -> None:
    data = bench.serve(Stall(MIB)).data
    bench.check(bench.get("a", digest(data)))
    assert bench.server.asked("a")[1].headers["Range"] == f"bytes={MIB}-"


def test_a_body_without_a_length_is_taken_as_it_is(bench: Bench) -> None:
    data = bench.serve(Ok(measured=False)).data
    bench.check(bench.get("a", digest(data)))


def test_a_body_without_a_length_that_was_cut_short_is_found_by_its_digest(bench: Bench) -> None:
    data = bench.serve(Ok(measured=False)).data
    bench.server.files["/a"].data = data[: len(data) // 2]
    with pytest.raises(VerificationError):
        bench.get("a", digest(data))
    assert bench.nothing_left()


def test_nobody_listening_is_a_clear_error() -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(FetchError, match="Connection refused"):
        fetch.small(url, HURRIED)


def test_a_proxy_is_used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bench.serve().data
    monkeypatch.setenv("http_proxy", bench.server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    url = "http://vendor.invalid/a"
    made = ingest.from_url(url, digest(data), bench.target, origin="x", progress=Silent(), policy=HURRIED)
    bench.check(made)


def test_a_stored_gz_that_the_server_calls_content_encoding_is_left_as_it_is(bench: Bench) -> None:
    resource = bench.serve(form="gz")
    resource.headers["Content-Encoding"] = "x-gzip"
    made = bench.get("a", digest(resource.data))
    bench.check(made)
    assert made.unpacked.format == "gz"


@pytest.mark.parametrize("form", images.FORMATS)
def test_corrupt_bytes_are_refused(bench: Bench, form: str) -> None:
    resource = bench.serve(form=form)
    good = digest(resource.data)
    middle = len(resource.data) // 2
    resource.data = resource.data[:middle] + b"corrupt" + resource.data[middle + 7 :]
    with pytest.raises((VerificationError, ImageError), match=r"does not match|cannot be unpacked"):
        bench.get("a", good)
    assert bench.nothing_left()
    assert len(bench.server.asked("a")) == 1, "a fresh download that is wrong will be wrong again"


def test_a_wrong_digest_names_both_digests_and_where_they_are_from(bench: Bench) -> None:
    data = bench.serve().data
    with pytest.raises(VerificationError) as caught:
        bench.get("a", "0" * 64)
    assert "0" * 64 in str(caught.value)
    assert digest(data) in str(caught.value)
    assert "from the test" in str(caught.value)
    assert bench.nothing_left()


@pytest.mark.parametrize("form", ["xz", "gz", "zst", "zip"])
def test_a_stream_that_ends_too_early_is_refused_even_if_the_digest_is_right(bench: Bench, form: str) -> None:
    resource = bench.serve(form=form)
    resource.data = resource.data[: len(resource.data) - 40]
    with pytest.raises(ImageError, match="cannot be unpacked"):
        bench.get("a", digest(resource.data))
    assert bench.nothing_left()


@pytest.mark.parametrize("form", ["xz", "gz", "zst"])
def test_something_after_the_image_is_refused(bench: Bench, form: str) -> None:
    resource = bench.serve(form=form)
    resource.data += b"and something that is no part of it" * 10
    with pytest.raises(ImageError, match="cannot be unpacked"):
        bench.get("a", digest(resource.data))
    assert bench.nothing_left()


@pytest.mark.parametrize("form", ["xz", "gz", "zst"])
def test_several_streams_in_a_row_are_one_image(bench: Bench, form: str) -> None:
    half = len(bench.image) // 2
    data = b"".join(images.pack(p, form) for p in (bench.image[:half], bench.image[half:]))
    bench.server.add("a", data)
    bench.check(bench.get("a", digest(data)))


@pytest.mark.parametrize("form", ["xz", "gz", "zst", "zip", "raw"])
def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path, form: str) -> None:
    from pibake.decompress import Unpacker

    whole = tmp_path / "whole"
    whole.write_bytes(images.pack(bytes(64 * MIB), form))

    def explode() -> None:
        with Unpacker(tmp_path / "out", source="bomb", whole=whole, limit=8 * MIB) as unpacker:
            data = whole.read_bytes()
            for offset in range(0, len(data), 65536):
                unpacker.feed(data[offset : offset + 65536])
            unpacker.finish()

    with pytest.raises(ImageError, match=r"more than 8\.0 MiB"):
        explode()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "said"), [((), "holds 0: nothing"), (("a.txt",), "holds 0: a.txt"), (("a.img", "b/B.IMG"), "holds 2: a.img, b/B.IMG")]
)  # fmt: skip
def test_a_zip_must_hold_exactly_one_image(bench: Bench, names: tuple[str, ...], said: str) -> None:
    import zipfile

    path = bench.folder / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    bench.server.add("a", path.read_bytes())
    with pytest.raises(ImageError, match=said):
        bench.get("a", digest(path.read_bytes()))
    assert bench.nothing_left()


def test_a_list_of_digests_that_is_no_list_but_gigabytes_is_refused(bench: Bench) -> None:
    bench.server.add("SHA256SUMS", bytes(3 * MIB))
    with pytest.raises(FetchError, match="more than 1048576 bytes"):
        fetch.small(f"{bench.server.url}SHA256SUMS", HURRIED)


def test_a_url_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(PibakeError, match="ftp"):
        fetch.small("ftp://127.0.0.1/x", HURRIED)
