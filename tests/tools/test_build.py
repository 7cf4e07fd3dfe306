"""`pibake build` as a person runs it, on a small real image: what it makes, and what goes wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.tools import command

from pibake.image import ext4, pieces

FAST = ("--gateway", "192.168.1.1", "--dns", "192.168.1.1", "--user", "ops")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"


class Bench:
    """A folder with a cluster.yaml on the small base, a cache of its own, and the real command."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base
        self.out = folder / "images/out"
        self.digest = hashlib.sha256(base.read_bytes()).hexdigest()
        self.env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}
        self.write()

    def write(self, *, address: str = "192.168.1.13/24", extra: str = "") -> None:
        (self.folder / "cluster.yaml").write_text(
            f"cluster: lab\ndomain: lab.example\nnetwork:\n  subnet: 192.168.1.0/24\n  gateway: 192.168.1.1\n"
            f"defaults:\n  base: {{file: {self.base}, sha256: {self.digest}}}\n{extra}"
            f"users:\n  - name: ops\n    ssh_keys: ['{KEY}']\n"
            f"nodes:\n  - {{hostname: node3, address: {address}}}\n  - {{hostname: node4, address: 192.168.1.14/24}}\n"
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pibake", *arguments],
            cwd=self.folder, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command.run(*arguments, env=self.env, cwd=self.folder)

    def build(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self.run("build", *(arguments or ("--hostname", "node3")))
        assert done.returncode == 0, done.stderr
        return done

    def leftovers(self) -> list[str]:
        return [path.name for path in self.out.glob(".*")] if self.out.exists() else []


@pytest.fixture
def bench(tmp_path: Path, small_base: Path) -> Bench:
    return Bench(tmp_path, small_base)


def test_a_node_is_an_image_its_digest_and_a_manifest(bench: Bench) -> None:
    bench.build()
    assert sorted(path.name for path in bench.out.iterdir()) == [
        "node3.bmap",
        "node3.img",
        "node3.img.sha256",
        "node3.manifest.json",
    ]
    copied = subprocess.run(
        ["bmaptool", "-q", "copy", bench.out / "node3.img", bench.folder / "card"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr
    assert (bench.folder / "card").read_bytes() == (bench.out / "node3.img").read_bytes()
    checked = subprocess.run(
        ["sha256sum", "-c", "node3.img.sha256"], cwd=bench.out, capture_output=True, check=False
    )
    assert checked.returncode == 0
    manifest = json.loads((bench.out / "node3.manifest.json").read_text())
    assert manifest["base"]["sha256"] == bench.digest
    assert manifest["image"]["sha256"] == (bench.out / "node3.img.sha256").read_text().split()[0]
    assert [partition["start"] for partition in manifest["partitions"]] == [1 << 20, 83968 * 512]


def test_the_same_inputs_give_the_same_bytes(bench: Bench) -> None:
    bench.build()
    first = (bench.out / "node3.img").read_bytes()
    manifest = (bench.out / "node3.manifest.json").read_text()
    time.sleep(2.1)
    bench.build("--hostname", "node3", "-o", "again")
    assert (bench.folder / "again/node3.img").read_bytes() == first
    assert (bench.folder / "again/node3.manifest.json").read_text() == manifest


def test_source_date_epoch_of_the_manifest_gives_the_same_bytes_another_day(bench: Bench) -> None:
    bench.build()
    epoch = json.loads((bench.out / "node3.manifest.json").read_text())["source_date_epoch"]
    os.utime(bench.folder / "cluster.yaml", (epoch + 90_000, epoch + 90_000))
    bench.env["SOURCE_DATE_EPOCH"] = str(epoch)
    bench.build("--hostname", "node3", "-o", "again")
    assert (bench.folder / "again/node3.img").read_bytes() == (bench.out / "node3.img").read_bytes()


def test_all_bakes_every_node_and_each_differs(bench: Bench) -> None:
    done = bench.build("--all", "--json")
    made = json.loads(done.stdout)
    assert [node["hostname"] for node in made] == ["node3", "node4"]
    assert made[0]["sha256"] != made[1]["sha256"]


@pytest.mark.parametrize(("how", "tool"), [("zst", "zstd"), ("xz", "xz")])
def test_a_compressed_image_unpacks_to_the_same_image(bench: Bench, how: str, tool: str) -> None:
    bench.build()
    bench.build("--hostname", "node3", "--compress", how, "-o", "packed")
    packed = bench.folder / f"packed/node3.img.{how}"
    unpacked = subprocess.run([tool, "-d", "-c", packed], capture_output=True, check=True).stdout
    assert unpacked == (bench.out / "node3.img").read_bytes()
    digest = (bench.folder / f"packed/node3.img.{how}.sha256").read_text()
    assert digest == f"{hashlib.sha256(packed.read_bytes()).hexdigest()}  node3.img.{how}\n"
    assert not (bench.folder / "packed/node3.img").exists()


def test_a_delta_is_composed_to_the_image_that_build_makes(bench: Bench) -> None:
    bench.build("--all")
    bench.build("--all", "--output", "delta", "-o", "deltas")
    done = bench.run("compose", "deltas/node3.delta", "deltas/node4.delta", "-o", "composed", "--json")
    assert done.returncode == 0, done.stderr
    for name, made in zip(("node3", "node4"), json.loads(done.stdout), strict=True):
        image = bench.out / f"{name}.img"
        assert (bench.folder / "composed" / image.name).read_bytes() == image.read_bytes()
        assert made == {
            "image": f"composed/{name}.img",
            "sha256": (bench.out / f"{name}.img.sha256").read_text().split()[0],
        }
        delta = bench.folder / f"deltas/{name}.delta"
        assert delta.stat().st_size < 64 << 10
        assert delta.stat().st_mode & 0o777 == 0o600
        manifest = json.loads((bench.folder / f"deltas/{name}.delta.manifest.json").read_text())
        assert manifest["image"]["sha256"] == hashlib.sha256(delta.read_bytes()).hexdigest()


def test_nodes_and_deltas_are_flashed_without_an_image_in_between(bench: Bench) -> None:
    bench.build("--all")
    bench.build("--all", "--output", "delta", "-o", "deltas")
    done = bench.run("flash", "--all", "a", "b", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert [each["verified"] for each in json.loads(done.stdout)] == [True, True]
    assert bench.run("flash", "deltas/node4.delta", "c", "--yes").returncode == 0
    for name, card in (("node3", "a"), ("node4", "b"), ("node4", "c")):
        assert (bench.folder / card).read_bytes() == (bench.out / f"{name}.img").read_bytes()
        assert (bench.folder / card).stat().st_mode & 0o777 == 0o600


def test_a_qcow2_disk_on_the_golden_image_is_the_same_disk(bench: Bench) -> None:
    bench.build()
    bench.build("--hostname", "node3", "--output", "qcow2")
    disk = bench.out / "node3.qcow2"
    argv = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(bench.out / "node3.img"), str(disk)]
    assert (
        subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "Images are identical.\n"
    )
    assert disk.stat().st_mode & 0o777 == 0o600
    assert disk.stat().st_size < 2 << 20


def test_images_are_as_long_as_one_asks_for(bench: Bench) -> None:
    bench.build("--hostname", "node3", "--size", "0.2G")
    image = bench.out / "node3.img"
    assert image.stat().st_size == 208 << 20  # 204.8 MiB, and on to a multiple of 4
    assert image.stat().st_blocks * 512 < 64 << 20
    done = bench.run("build", "--hostname", "node3", "--size", "4M")
    assert done.returncode == 1
    assert "is too small for this base" in done.stderr
    assert image.stat().st_size == 208 << 20
    assert bench.run("build", "--hostname", "node3", "--size", "lots").returncode == 2


def test_without_a_cluster_yaml_flags_describe_a_node(bench: Bench) -> None:
    (bench.folder / "cluster.yaml").unlink()
    base = f"{bench.base}#sha256={bench.digest}"
    bench.build("--hostname", "node9", "--base", base, "--address", "192.168.1.9/24", *FAST, "--ssh-key", KEY)
    assert json.loads((bench.out / "node9.manifest.json").read_text())["node"]["address"] == "192.168.1.9/24"


def test_without_a_cluster_yaml_and_flags_the_error_says_what_to_do(bench: Bench) -> None:
    (bench.folder / "cluster.yaml").unlink()
    done = bench.run("build", "--hostname", "node3")
    assert done.returncode == 1
    assert "there is no cluster.yaml in this folder or a parent folder" in done.stderr
    assert "pibake init" in done.stderr


def test_a_cluster_yaml_in_a_parent_folder_is_found(bench: Bench) -> None:
    (bench.folder / "deep/er").mkdir(parents=True)
    done = command.run("plan", "--json", cwd=bench.folder / "deep/er", env=bench.env)
    assert done.returncode == 0
    assert [node["hostname"] for node in json.loads(done.stdout)["nodes"]] == ["node3", "node4"]


def test_an_unknown_node_is_named_with_the_likely_one(bench: Bench) -> None:
    done = bench.run("build", "--hostname", "nod3")
    assert done.returncode == 1
    assert "did you mean `node3`?" in done.stderr


def test_an_overlays_files_are_in_the_root_file_system_and_its_templates_in_the_seed(bench: Bench) -> None:
    (bench.folder / "overlays/motd/etc").mkdir(parents=True)
    (bench.folder / "overlays/motd/etc/issue").write_text("hello from an overlay\n")
    (bench.folder / "overlays/motd/etc/motd.j2").write_text("this is {{ hostname }}\n")
    bench.write(extra="  overlays: [motd]\n")
    bench.build()
    image = bench.out / "node3.img"
    assert ext4.read_file(image, ext4.root_partition(image).start, "etc/issue") == b"hello from an overlay\n"
    seed = subprocess.run(
        ["mtype", "-i", f"{bench.out / 'node3.img'}@@1M", "::/user-data"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert '"/etc/motd"' in seed
    assert base64.b64encode(b"this is node3\n").decode() in seed
    assert "/etc/issue" not in seed


def test_an_image_without_a_partition_table_is_refused_with_what_it_is(bench: Bench) -> None:
    bench.base = bench.folder / "plain.img"
    bench.base.write_bytes(b"\0" * (4 << 20))
    bench.digest = hashlib.sha256(bench.base.read_bytes()).hexdigest()
    bench.write()
    done = bench.run("build", "--hostname", "node3")
    assert done.returncode == 1
    assert "partition table" in done.stderr
    assert not bench.leftovers()


def test_a_boot_partition_with_no_room_is_an_error_and_leaves_nothing(bench: Bench, small_base: Path) -> None:
    bench.base = Path(shutil.copyfile(small_base, bench.folder / "full.img"))
    for number, size in enumerate([4 << 20, 512 << 10, 64 << 10, 8 << 10, 512]):
        for part in range(10):
            filler = bench.folder / f"filler{number}-{part}"
            filler.write_bytes(bytes(size))
            subprocess.run(
                ["mcopy", "-i", f"{bench.base}@@1M", filler, "::"], capture_output=True, check=False
            )
    bench.digest = hashlib.sha256(bench.base.read_bytes()).hexdigest()
    bench.write()
    done = bench.run("build", "--hostname", "node3")
    assert done.returncode == 1
    assert "node3" in done.stderr
    assert "the boot partition has no room for the seed's" in done.stderr
    assert list(bench.out.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs")
def test_a_disk_that_fills_is_an_error_and_keeps_the_old_image(bench: Bench) -> None:
    (bench.folder / "overlays/much/opt").mkdir(parents=True)
    (bench.folder / "overlays/much/opt/data.j2").write_text(os.urandom(200_000).hex())
    bench.write(extra="  overlays: [much]\n")
    bench.build()
    before = (bench.out / "node3.img").read_bytes()
    shutil.move(bench.out, bench.folder / "kept")
    bench.out.mkdir()
    script = (
        f"mount -t tmpfs -o size=64M tmpfs {bench.out} && cp {bench.folder}/kept/* {bench.out} && "
        f"free=$(df --output=avail -B1 {bench.out} | tail -n 1) && "
        f"head -c $((free - {{room}})) /dev/zero > {bench.out}/hog && "
        f"{sys.executable} -m pibake build --hostname node3 2>&1; echo exit $?; ls -A {bench.out}; "
        f"cmp {bench.folder}/kept/node3.img {bench.out}/node3.img && echo same"
    )
    (cached,) = (bench.folder / "cache/pibake/images/sha256").glob("*.img")
    base = pieces.volume(pieces.measure(cached))
    # Too little is seen before anything is written; room for the image but not for the seed, only while writing.
    for room, complaint in ((base // 2, "free; 1 image(s) need"), (base + 4096, "disk is full")):
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script.format(room=room)],
            cwd=bench.folder, env=bench.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "exit 1" in done.stdout, done.stdout + done.stderr
        assert complaint in done.stdout
        assert ".part" not in done.stdout.split("exit 1")[1]
        assert "same" in done.stdout
    assert (bench.folder / "kept/node3.img").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_ended_at_any_moment_leaves_whole_files_only(bench: Bench, number: signal.Signals) -> None:
    bench.build()
    good = {path.name: path.read_bytes() for path in bench.out.iterdir()}
    moments = random.Random(int(number))  # noqa: S311 - moments, not secrets
    # before its own first line, a program can only end as Python ends it
    started = time.monotonic()
    bench.start("--version").communicate()
    starting = time.monotonic() - started
    for _ in range(8):
        child = bench.start("build", "--hostname", "node3")
        time.sleep(starting + moments.uniform(0, 0.5))
        os.killpg(child.pid, number)
        _, err = child.communicate()
        assert "Traceback" not in err
        for name in ("node3.img", "node3.img.sha256", "node3.bmap", "node3.manifest.json"):
            path = bench.out / name
            assert not path.exists() or path.read_bytes() == good[name]
        if number != signal.SIGKILL:
            assert not bench.leftovers()
    bench.build()
    assert {path.name: path.read_bytes() for path in bench.out.iterdir()} == good
    assert bench.run("base", "verify").returncode == 0


def test_two_builds_at_once_both_succeed(bench: Bench) -> None:
    children = [bench.start("build", "--hostname", "node3") for _ in range(3)]
    for child in children:
        _, err = child.communicate()
        assert child.returncode == 0, err
    checked = subprocess.run(
        ["sha256sum", "-c", "node3.img.sha256"], cwd=bench.out, capture_output=True, check=False
    )
    assert checked.returncode == 0
    assert not bench.leftovers()
