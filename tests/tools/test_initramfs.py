"""What a test boot adds to an initramfs: unpacked by cpio, and run with klibc's programs in made-up initramfs trees."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from pibake.image import cpio
from pibake.tree import File, Tree
from pibake.vm import reporter

NAMESPACE = ["unshare", "--map-root-user", "--mount"]
KLIBC = Path("/usr/lib/klibc/bin")
PLACED = (
    "pibake-report/report.py",
    "pibake-report/start",
    "udev/rules.d/70-pibake-boot.rules",
    "systemd/system/pibake-report.service",
    "systemd/system/sysinit.target.d/pibake-report.conf",
)
INITRAMFS_TOOLS = """#!/bin/sh
mount -t tmpfs tmpfs /run
. /scripts/init-bottom/ORDER
"""
"""What initramfs-tools' /init does about /run: it comes new, and what ORDER lists is run before it moves on."""

SHOW = """echo "/init was given: $*"
while IFS= read -r mount; do case $mount in *" /run "*) echo "/run is mounted"; esac; done < /proc/mounts
for file in /run/*/* /run/*/*/* /run/*/*/*/*; do
    if [ -f "$file" ]; then echo "== $file"; while IFS= read -r line; do printf '%s\\n' "$line"; done < "$file"; fi
done
"""


@pytest.fixture
def namespace() -> None:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")


def unpack(archive: bytes, folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["cpio", "-idm", "--quiet"], cwd=folder, input=archive, check=True)


def machine(folder: Path, *, init: str, programs: tuple[str, ...] = ("mkdir", "mount", "sh")) -> Path:
    """Unpack the reporter's archive below `folder`, with an /init and programs of klibc's beside it."""
    unpack(reporter.add(b"", patience=10.0, vehicle="files"), folder)
    for name in ("bin", "lib", "proc", "scripts", "etc"):
        (folder / name).mkdir()
    for program in programs:
        shutil.copy2(KLIBC / program, folder / "bin")
    for library in Path("/lib").glob("klibc-*.so"):
        shutil.copy2(library, folder / "lib")
    (folder / "init").write_text(init + SHOW)
    (folder / "init").chmod(0o755)
    return folder


def boot(folder: Path, *arguments: str) -> str:
    script = f"mount --rbind /proc {folder}/proc && exec chroot {folder} /pibake/init"
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", f'{script} "$@"', "sh", *arguments],
        capture_output=True, text=True, check=False, env={"PATH": "/bin:/usr/bin:/usr/sbin"},
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.stdout


def placed(text: str) -> dict[str, str]:
    """The files below /run that a machine has shown, by path."""
    parts = [part.partition("\n") for part in text.split("== /run/")[1:]]
    return {name: content for name, _, content in parts}


def test_cpio_unpacks_what_was_packed_with_modes_and_folders(tmp_path: Path) -> None:
    tree = Tree(
        {
            "usr/bin/tool": File(b"#!/bin/sh\n", 0o755),
            "usr/bin-b": File(b"beside"),
            "etc/three": File(b"abc", 0o600),
            "empty": File(b""),
            "n\u00e4me": File(bytes(range(256)) * 40),
        }
    )
    unpack(cpio.pack(tree), tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*")}
    assert set(found) == {
        "usr",
        "usr/bin",
        "usr/bin/tool",
        "usr/bin-b",
        "etc",
        "etc/three",
        "empty",
        "n\u00e4me",
    }
    for name, file in tree:
        assert found[name].read_bytes() == file.data
        assert found[name].stat().st_mode & 0o7777 == file.mode
        assert found[name].stat().st_mtime == 0
    listed = subprocess.run(
        ["cpio", "-itvn", "--quiet"], input=cpio.pack(tree), capture_output=True, check=True
    ).stdout.decode()
    assert all(line.split()[2:4] == ["0", "0"] for line in listed.splitlines())


def test_archives_are_apart_by_zeros_and_begin_at_multiples_of_four() -> None:
    for length in range(8):
        joined = cpio.join(b"x" * length, b"070701")
        place = joined.index(b"070701")
        assert place % 4 == 0
        assert joined[length:place] == bytes(place - length)
        assert place - length >= 4


def test_initramfs_tools_finds_both_archives_of_one_initramfs(tmp_path: Path) -> None:
    own = gzip.compress(cpio.pack(Tree({"init": File(b"theirs", 0o755)})), mtime=0)
    (tmp_path / "initrd").write_bytes(reporter.add(own, patience=10.0, vehicle="cloud-init"))
    listed = subprocess.run(
        ["lsinitramfs", tmp_path / "initrd"], capture_output=True, text=True, check=True
    ).stdout
    assert {"init", "pibake/init", "pibake/run/pibake-report/report.py"} <= set(listed.split())


@pytest.mark.usefixtures("namespace")
def test_with_initramfs_tools_the_reporter_is_placed_when_run_is_mounted_and_the_root_found(
    tmp_path: Path,
) -> None:
    folder = machine(tmp_path / "ird", init=INITRAMFS_TOOLS)
    order = folder / "scripts/init-bottom/ORDER"
    order.parent.mkdir()
    (folder / "run").mkdir()
    order.write_text("echo udev is moved\n")
    said = boot(folder, "splash", "two words")
    assert said.startswith("udev is moved\n/init was given: splash two words\n/run is mounted\n")
    assert set(placed(said)) == set(PLACED)
    for name in PLACED:
        assert placed(said)[name] == (folder / "pibake/run" / name).read_text()


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("release", ["etc/initrd-release", "usr/lib/initrd-release"])
def test_with_dracut_run_is_mounted_first_and_holds_the_reporter(tmp_path: Path, release: str) -> None:
    folder = machine(tmp_path / "ird", init="#!/bin/sh\n")
    (folder / release).parent.mkdir(parents=True, exist_ok=True)
    (folder / release).write_text("NAME=dracut\n")
    said = boot(folder)
    assert said.startswith("/init was given: \n/run is mounted\n")
    for name in PLACED:
        assert placed(said)[name] == (folder / "pibake/run" / name).read_text()


@pytest.mark.usefixtures("namespace")
def test_any_other_initramfs_is_an_alert_on_the_console(tmp_path: Path) -> None:
    folder = machine(tmp_path / "ird", init="#!/bin/sh\n")
    said = boot(folder)
    assert said.startswith("ALERT! pibake cannot add its reporter")
    assert not placed(said)


def test_systemd_takes_the_unit_and_its_arguments_as_they_are_meant(tmp_path: Path) -> None:
    unpack(reporter.add(b"", patience=300.0, vehicle="files"), tmp_path / "ird")
    units = tmp_path / "ird/pibake/run/systemd/system"
    unit = (units / "pibake-report.service").read_text()
    assert "ExecStart=/bin/sh /run/pibake-report/start 300.0 files\n" in unit
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd here to judge it")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", units / "pibake-report.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "pibake-report" not in done.stderr, done.stderr


def test_a_node_without_python_says_so_to_the_host(tmp_path: Path) -> None:
    unpack(reporter.add(b"", patience=10.0, vehicle="files"), tmp_path / "ird")
    start = (tmp_path / "ird/pibake/run/pibake-report/start").read_text()
    port = tmp_path / "port"
    port.touch()
    script = start.replace("/dev/virtio-ports/io.pibake.report", str(port))
    assert script != start
    subprocess.run(["/bin/sh", "-c", script], env={"PATH": str(tmp_path)}, check=True)
    assert port.read_text() == '{"failed": "no Python 3 on this node, which the reporter is written in"}\n'
