"""The cache of bases: trust, damage, locks, files as bases, and what pruning removes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.tools import command, images
from tests.tools.command import started

from pibake import bases, inventory
from pibake.cache import Cache
from pibake.errors import ImageError, PibakeError, VerificationError
from pibake.plan import BaseRef
from pibake.progress import Silent

QUIET = Silent()


class Log(Silent):
    """Remembers what was said and which tasks were opened."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.make(tmp_path_factory.mktemp("image") / "card.img", noise=1 << 18)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def packed(card: Path, tmp_path: Path) -> Path:
    path = tmp_path / "card.img.xz"
    path.write_bytes(images.pack(card.read_bytes(), "xz"))
    return path


def test_a_file_is_imported_once_and_stays_as_it_is(packed: Path, card: Path, cache: Cache) -> None:
    before = packed.read_bytes(), packed.stat().st_mtime_ns
    first = bases.obtain(BaseRef(file=str(packed), sha256=digest(packed)), cache, QUIET)
    assert first.sha256 == digest(first.image) == digest(card)
    assert first.created == int(packed.stat().st_mtime)
    inode = first.image.stat().st_ino
    second = bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    assert second == first
    assert second.image.stat().st_ino == inode
    assert (packed.read_bytes(), packed.stat().st_mtime_ns) == before


def test_an_image_in_the_cache_is_read_only(packed: Path, cache: Cache) -> None:
    assert bases.obtain(BaseRef(file=str(packed)), cache, QUIET).image.stat().st_mode & 0o777 == 0o444


def test_a_file_that_changed_is_imported_anew(packed: Path, cache: Cache) -> None:
    first = bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    packed.write_bytes(images.pack(first.image.read_bytes()[:-1] + b"x", "gz"))
    assert bases.obtain(BaseRef(file=str(packed)), cache, QUIET).sha256 != first.sha256


def test_a_file_with_another_digest_is_refused_even_if_it_was_imported_before(
    packed: Path, cache: Cache
) -> None:
    bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    with pytest.raises(VerificationError, match="0" * 64):
        bases.obtain(BaseRef(file=str(packed), sha256="0" * 64), cache, QUIET)
    assert not list(cache.partial.iterdir())


def test_a_missing_file_is_a_clear_error(cache: Cache) -> None:
    with pytest.raises(PibakeError, match=r"/no/such\.img: there is no such file"):
        bases.obtain(BaseRef(file="/no/such.img"), cache, QUIET)


def test_a_file_that_is_no_image_is_a_clear_error(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no image")
    with pytest.raises(ImageError, match="has no partition table"):
        bases.obtain(BaseRef(file=str(path)), cache, QUIET)
    assert not cache.digests()
    assert not list(cache.partial.iterdir())


def test_a_url_without_a_digest_is_refused(cache: Cache) -> None:
    with pytest.raises(PibakeError, match="a sha256 is needed"):
        bases.obtain(BaseRef(url="http://127.0.0.1:9/x.img"), cache, QUIET)


def damage(image: Path, *, keep_time: bool) -> None:
    status = image.stat()
    image.chmod(0o644)
    with image.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"damaged")
    image.chmod(0o444)
    if keep_time:
        os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_an_image_that_was_touched_is_hashed_again_and_trusted_after_that(packed: Path, cache: Cache) -> None:
    base = bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    os.utime(base.image, ns=(1, 1))
    assert bases.obtain(BaseRef(file=str(packed)), cache, QUIET) == base
    assert cache.info(base.sha256)["verified"][1] == 1


def test_damage_is_found_by_a_changed_mtime_and_the_next_use_gets_the_image_again(
    packed: Path, cache: Cache
) -> None:
    base = bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    damage(base.image, keep_time=False)
    with pytest.raises(VerificationError, match=base.sha256) as caught:
        bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    assert str(cache.damaged) in caught.value.hint
    assert not base.image.exists()
    assert bases.obtain(BaseRef(file=str(packed)), cache, QUIET) == base
    cache.verify(base.sha256, QUIET)


def test_damage_that_keeps_the_mtime_is_found_by_verify(packed: Path, cache: Cache) -> None:
    base = bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    damage(base.image, keep_time=True)
    with pytest.raises(VerificationError):
        cache.verify(base.sha256, QUIET)
    assert not cache.digests()


def test_a_record_that_was_damaged_costs_a_hash_and_nothing_else(packed: Path, cache: Cache) -> None:
    base = bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    base.image.with_suffix(".json").write_text("{ nonsense")
    assert bases.obtain(BaseRef(file=str(packed)), cache, QUIET) == base


def test_the_same_image_by_two_ways_is_stored_once_and_keeps_both_origins(
    packed: Path, card: Path, cache: Cache
) -> None:
    one = bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    two = bases.obtain(BaseRef(file=str(card)), cache, QUIET)
    assert one.sha256 == two.sha256
    assert len(cache.digests()) == 1
    assert bases.obtain(BaseRef(file=str(packed)), cache, QUIET).info["format"] == "xz"
    assert bases.obtain(BaseRef(file=str(card)), cache, QUIET).info["format"] == "raw"


def test_holes_stay_holes(packed: Path, cache: Cache) -> None:
    image = bases.obtain(BaseRef(file=str(packed)), cache, QUIET).image
    assert image.stat().st_size == 64 << 20
    assert image.stat().st_blocks * 512 < 4 << 20


def test_a_lock_that_is_held_names_its_holder(cache: Cache) -> None:
    script = (
        "import sys, time; from pathlib import Path; from pibake.cache import Cache; from pibake.progress import Silent\n"
        "with Cache(Path(sys.argv[1])).lock('thing', Silent()): print('held', flush=True); time.sleep(1)"
    )
    with started([sys.executable, "-c", script, cache.root], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        assert cache.busy("thing")
        log = Log()
        with cache.lock("thing", log):
            assert other.wait(20) == 0
    assert log.lines
    assert f"thing: waiting for process {other.pid} " in log.lines[0]
    assert not cache.busy("thing")


def test_a_lock_may_be_named_by_a_path(cache: Cache, tmp_path: Path) -> None:
    key = f"out-{tmp_path}/a b.img"
    with cache.lock(key, QUIET):
        assert cache.busy(key)
        assert not cache.busy(f"{key}2")


def test_a_cache_that_cannot_be_written_is_a_clear_error() -> None:
    with (
        pytest.raises(PibakeError, match="cannot be made") as caught,
        Cache(Path("/proc/pibake")).lock("x", QUIET),
    ):
        pass
    assert "XDG_CACHE_HOME" in caught.value.hint


def dropped(cache: Cache, *, everything: bool = False, dry_run: bool = False) -> dict[str, str]:
    found = inventory.prune(cache, QUIET, everything=everything, dry_run=dry_run)
    return {drop.path.name: drop.why for drop in found}


def test_what_was_found_out_of_a_file_is_known_until_it_is_touched(cache: Cache, tmp_path: Path) -> None:
    path, asked = tmp_path / "large", []

    def first(path: Path) -> str:
        asked.append(path)
        return path.read_text()[:1]

    path.write_text("abc")
    assert [cache.known(path, "first", first) for _ in range(3)] == ["a"] * 3
    assert cache.known(path, "length", lambda path: str(path.stat().st_size)) == "3"
    assert len(asked) == 1
    path.write_text("xbc")
    assert cache.known(path, "first", first) == "x"
    assert len(asked) == 2
    path.write_bytes(bytes(1 << 20))
    assert cache.sha256(path) == hashlib.sha256(bytes(1 << 20)).hexdigest()
    inventory.prune(cache, QUIET, everything=False, dry_run=False)
    assert list((cache.root / "known").iterdir())
    path.unlink()
    inventory.prune(cache, QUIET, everything=False, dry_run=False)
    assert not list((cache.root / "known").iterdir())


def test_prune_keeps_what_is_in_use(packed: Path, cache: Cache) -> None:
    bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    assert not dropped(cache)
    assert len(cache.digests()) == 1


def test_prune_removes_the_image_of_a_file_that_is_gone(packed: Path, cache: Cache) -> None:
    image = bases.obtain(BaseRef(file=str(packed)), cache, QUIET).image
    packed.unlink()
    assert "is gone or has changed" in " ".join(dropped(cache, dry_run=True).values())
    assert image.exists()
    assert image.name in dropped(cache)
    assert not image.exists()
    assert not list(cache.images.iterdir())
    assert not list(cache.names.iterdir())


def test_prune_removes_old_leftovers_but_not_what_a_run_is_making(cache: Cache) -> None:
    old = time.time() - 2 * 86400
    for name in ("old.img", "old.img.part", "busy.img", "fresh.img"):
        (cache.partial / name).write_bytes(b"x")
        if name != "fresh.img":
            os.utime(cache.partial / name, (old, old))
    with cache.lock("busy", QUIET):
        assert set(dropped(cache)) == {"old.img", "old.img.part"}
    assert {path.name for path in cache.partial.iterdir()} == {"busy.img", "fresh.img"}


def test_prune_keeps_the_newest_assembly_of_a_name(card: Path, cache: Cache, tmp_path: Path) -> None:
    for number in (1, 2):
        temp = tmp_path / f"{number}.img"
        temp.write_bytes(card.read_bytes() + bytes([number]))
        info = {"name": "debian-13", "created": 0, "obtained": number}
        cache.keep(f"debian-13@{number}", temp, digest(temp), info, QUIET)
    assert "debian-13@1.json" in dropped(cache)
    assert list(cache.pins()) == ["debian-13@2"]
    assert len(cache.digests()) == 1


def test_prune_all_leaves_nothing(packed: Path, cache: Cache) -> None:
    bases.obtain(BaseRef(file=str(packed)), cache, QUIET)
    (cache.debs / "some.deb").write_bytes(b"x")
    dropped(cache, everything=True)
    kept = {path.parent.name for path in cache.root.rglob("*") if path.is_file()}
    assert kept <= {"locks"}


def pibake(cache: Cache, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command.run(*arguments, env={**os.environ, "XDG_CACHE_HOME": str(cache.root.parent)})


@pytest.fixture
def home(tmp_path: Path) -> Cache:
    """The cache of a person whose XDG_CACHE_HOME is `tmp_path`."""
    return Cache(tmp_path / "pibake")


def test_base_verify_reports_each_damaged_image_and_exits_with_4(packed: Path, home: Cache) -> None:
    base = bases.obtain(BaseRef(file=str(packed)), home, QUIET)
    assert pibake(home, "base", "verify").stdout == f"{base.sha256}  ok  card.img.xz\n"
    damage(base.image, keep_time=True)
    done = pibake(home, "base", "verify", "card.img.xz")
    assert done.returncode == 4
    assert done.stdout == f"{base.sha256}  DAMAGED\n"
    assert str(home.damaged) in done.stderr
    assert pibake(home, "base", "verify").returncode == 0


def test_base_verify_of_something_unknown_says_what_to_do(home: Cache) -> None:
    done = pibake(home, "base", "verify", "debian-13")
    assert done.returncode == 1
    assert "`pibake base pull debian-13` gets it" in done.stderr


def test_base_list_shows_files_too(packed: Path, home: Cache) -> None:
    base = bases.obtain(BaseRef(file=str(packed)), home, QUIET)
    listed = pibake(home, "base", "list").stdout
    assert base.sha256[:12] in listed
    assert str(packed) in listed
    rows = json.loads(pibake(home, "base", "list", "--json").stdout)
    assert [row["name"] for row in rows if row["state"] == "cached"] == ["card.img.xz"]


def test_base_prune_says_how_much_it_freed(packed: Path, home: Cache) -> None:
    bases.obtain(BaseRef(file=str(packed)), home, QUIET)
    would = pibake(home, "base", "prune", "--all", "--dry-run").stdout.splitlines()[-1]
    assert would.endswith(" would be freed")
    assert home.digests()
    assert pibake(home, "base", "prune", "--all").stdout.splitlines()[-1] == would.replace(
        "would be freed", "freed"
    )
    assert not home.digests()


def test_base_build_of_a_vendors_image_points_at_pull(home: Cache) -> None:
    assert "hint: pibake base pull ubuntu-24.04" in pibake(home, "base", "build", "ubuntu-24.04").stderr
