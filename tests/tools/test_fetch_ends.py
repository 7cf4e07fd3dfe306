"""Pulls that end before their time, by the real command line: signals, a full disk, a second process."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.tools import images, vendor
from tests.tools.httpd import PIECE, Ok
from tests.tools.vendor import FILE, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
URL = f"releases/{FILE}"
RATE = 4 * MIB
"""Bytes per second of the server, so that a pull of 3 MiB takes about a second."""


@pytest.fixture(scope="module")
def shop_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[vendor.Keys, str, bytes]]:
    with vendor.keyring() as keys:
        image = images.make(tmp_path_factory.mktemp("image") / "card.img").read_bytes()
        yield keys, keys.make("vendor@example.org"), image


@pytest.fixture
def shop(tmp_path: Path, shop_parts: tuple[vendor.Keys, str, bytes]) -> Iterator[Shop]:
    keys, key, image = shop_parts
    with vendor.shop(tmp_path, keys, key, image, images.pack(image, "xz")) as shop:
        shop.publish()
        yield shop


def wait_for_request(shop: Shop) -> None:
    deadline = time.monotonic() + 30
    while not shop.server.asked(URL):
        assert time.monotonic() < deadline, "the pull never asked for the file"
        time.sleep(0.01)


def leftovers(shop: Shop) -> set[str]:
    return {path.name for path in (shop.cache / "partial").iterdir()}


@pytest.mark.parametrize("moment", [0.0, 0.25, 0.5, 0.75, 0.95, 1.1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_pull_that_is_ended_leaves_no_half_image_and_the_next_one_goes_on(
    shop: Shop, number: signal.Signals, moment: float
) -> None:
    shop.server.files[f"/{URL}"].then = Ok(rate=RATE)
    moment += random.uniform(0, 0.2)  # noqa: S311 - any moment will do
    with shop.start("base", "pull", "demo-1") as child:
        wait_for_request(shop)
        time.sleep(moment * len(shop.packed) / RATE)
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
    # -SIGINT: it came when the work was done and Python was about to exit
    assert child.returncode in {0, -number, 130 if number == signal.SIGINT else 0}, said
    if number == signal.SIGINT:
        assert leftovers(shop) <= {"demo-1.img.part", "demo-1.img.part.json"}
        assert "Traceback" not in said
    shop.assert_sound()
    kept = shop.cache / "partial" / "demo-1.img.part"
    settle(shop)
    before, had = shop.server.sent, kept.stat().st_size if kept.exists() else 0
    shop.server.files[f"/{URL}"].then = Ok()
    shop.assert_pulled()
    assert shop.server.sent - before <= len(shop.packed) - had + 4096, (
        f"did not go on (ended at {moment:.2f})"
    )
    assert not leftovers(shop)


def settle(shop: Shop) -> None:
    """Wait until the server has noticed that its client is gone: it hears so at the next piece it sends."""
    before = -1
    while before != shop.server.sent:
        before = shop.server.sent
        time.sleep(3 * PIECE / RATE)


def test_the_second_of_two_pulls_waits_for_the_first_and_downloads_nothing(shop: Shop) -> None:
    shop.server.files[f"/{URL}"].then = Ok(rate=RATE)
    with shop.start("base", "pull", "demo-1") as first:
        wait_for_request(shop)
        second = shop.run("base", "pull", "demo-1")
        first.communicate(timeout=30)
    assert first.returncode == second.returncode == 0
    assert f"waiting for process {first.pid} " in second.stderr
    assert len(shop.server.asked(URL)) == 1
    shop.assert_sound()


def on_small_disk(shop: Shop, mib: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script whose cache is a file system of `mib` MiB, which goes away with it."""
    (shop.folder / "cache").mkdir(exist_ok=True)
    mount = f"mount -t tmpfs -o size={mib}m small '{shop.folder}/cache' && "
    argv = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "sh", "-c", mount + script]
    environment = {**shop.environment, "PIBAKE": f"{sys.executable} -m pibake"}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)


needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(
        ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "true"],
        check=False,
        capture_output=True,
    ).returncode
    != 0,
    reason="no mount namespaces here",
)


@needs_namespaces
def test_a_disk_too_small_is_found_before_the_download(shop: Shop) -> None:
    done = on_small_disk(shop, 4, "$PIBAKE base pull demo-1; echo status $?; ls cache/pibake/partial")
    assert "status 1" in done.stdout
    assert "are needed to download and unpack" in done.stderr
    assert "XDG_CACHE_HOME" in done.stderr
    assert "demo-1.img.part\n" not in done.stdout


@needs_namespaces
def test_a_disk_that_fills_while_unpacking_keeps_the_download_and_nothing_else(shop: Shop) -> None:
    noise = os.urandom(1 << 16) * 192  # 12 MiB on disk, and next to nothing in xz
    shop.image = shop.image[: 51 * MIB] + noise + shop.image[63 * MIB :]
    shop.packed = images.xz(shop.image)
    shop.publish()
    done = on_small_disk(
        shop, 12, f"cd '{shop.folder}'; $PIBAKE base pull demo-1; echo status $?; find cache/pibake -type f;"
        "mount -o remount,size=40m small cache; $PIBAKE base pull demo-1 && $PIBAKE base verify"
    )  # fmt: skip
    first, _, second = done.stdout.partition("status 1\n")
    assert not first
    assert "the disk is full: no room for" in done.stderr, done.stderr
    assert "demo-1.img.part\n" in second
    assert "demo-1.img\n" not in second
    assert second.endswith(f"{hashlib.sha256(shop.image).hexdigest()}  ok  demo-1\n"), done.stderr
    assert len(shop.server.asked(URL)) == 1, "the kept download was fetched again"


@needs_namespaces
def test_a_disk_that_fills_while_downloading_is_a_clear_error(shop: Shop) -> None:
    shop.server.files[f"/{URL}"].then = Ok(measured=False)  # so that there is nothing to check before
    script = "$PIBAKE base pull demo-1; echo status $?; find cache/pibake -name '*.img'"
    done = on_small_disk(shop, 2, f"cd '{shop.folder}'; {script}")
    assert done.stdout.endswith("status 1\n"), done.stderr
    assert "the disk is full: no room for" in done.stderr
