"""`pibake card read` and `pibake reseed`, on small real cards: what they say, what they change, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools import command, layouts
from tests.tools.images import tool
from tests.tools.nodes import PSK

from pibake import card, config, reseed
from pibake.cache import Cache
from pibake.errors import ImageError, PibakeError, VerificationError
from pibake.image import ext4, fat, fat_replace
from pibake.image.ext4_tree import Files
from pibake.image.ext4_write import Entry, write
from pibake.image.fat_tree import Volume
from pibake.image.layout import boot_partition
from pibake.image.rewrite import rewrite
from pibake.plan import plan
from pibake.progress import Silent

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKbYQ2aJzV0lUZl4cZlqkMUwE3pmmTW5C5b0oXkZ1Q3f other"
STATE = {
    "node": "node3", "stage": "scrubbed", "status": "ok", "detail": "removed it", "attempts": 1, "time": 1_764_000_000,
    "reached": {"network": 12.4, "scrubbed": 31.0},
}  # fmt: skip
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices and mounts need root")


class Desk:
    """A folder with a cluster.yaml, a cache, and cards made by the real command."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base
        self.env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        self.digest = hashlib.sha256(base.read_bytes()).hexdigest()
        self.describe()

    def describe(
        self,
        *,
        cluster: str = "lab",
        address: str = "192.168.1.13/24",
        users: Mapping[str, str] | None = None,
        extra: str = "",
        base: tuple[Path, str] | None = None,
        role: str = "agent",
    ) -> None:
        people = "".join(
            f"  - {{name: {n}, ssh_keys: ['{k}']}}\n" for n, k in (users or {"ops": KEY}).items()
        )
        file, digest = base or (self.base, self.digest)
        (self.folder / "cluster.yaml").write_text(
            f"cluster: {cluster}\ndomain: lab.example\n"
            f"network: {{subnet: 192.168.1.0/24, gateway: 192.168.1.1}}\n"
            f"defaults:\n  base: {{file: {file}, sha256: {digest}}}\n{extra}users:\n{people}"
            f"nodes:\n  - {{hostname: node3, address: {address}, role: {role}}}\n  - {{hostname: node4, address: 192.168.1.14/24}}\n"
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command.run(*arguments, env=self.env, cwd=self.folder)

    def build(self, name: str = "node3", out: str = "images/out") -> Path:
        done = self.run("build", "--hostname", name, "-o", out)
        assert done.returncode == 0, done.stderr
        return self.folder / out / f"{name}.img"

    def read(self, path: Path) -> dict[str, Any]:
        found = json.loads(self.run("card", "read", str(path), "--json").stdout)
        assert isinstance(found, dict)
        return found

    def prepare(self, path: Path, name: str = "node3") -> reseed.Reseed:
        decided = plan(config.load(self.folder / "cluster.yaml", bases=()))
        return reseed.prepare(
            decided, decided.node(name), path, Cache(self.folder / "cache/pibake"), Silent()
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_base: Path) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("desk"), small_base)
    desk.build()
    return desk


@pytest.fixture
def desk(made: Desk) -> Desk:
    made.describe()
    return made


@pytest.fixture
def image(desk: Desk, tmp_path: Path) -> Path:
    """A card of node3 that was never booted; a copy of its own for every test."""
    return copied(desk.folder / "images/out/node3.img", tmp_path / "card.img")


def copied(source: Path, target: Path) -> Path:
    tool("cp", "--sparse=always", source, target)
    return target


def boot_files(path: Path) -> dict[str, bytes]:
    start = boot_partition(path).start
    names = fat.listing(path, start, deep=True)
    return fat.contents(path, start, [name for name in names if name not in {"overlays", "current"}])


def put(path: Path, files: Mapping[str, str]) -> None:
    """Leave what a running node leaves in its root file system."""
    root = Files(path, ext4.root_partition(path).start)
    entries = []
    for number, (name, text) in enumerate(files.items()):
        source = path.with_suffix(f".{number}")
        source.write_text(text)
        entries.append(Entry(name, source=source))
    write(root, entries, epoch=1)


def booted(path: Path, state: Mapping[str, Any] = STATE, **more: str) -> str:
    """Let a card look as if its node had been up; return the instance-id that was applied."""
    identity = card.read(path).instance_id
    put(
        path,
        {
            "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
            "var/lib/cloud/data/instance-id": f"{identity}\n",
            "var/lib/pibake/state.json": json.dumps(state),
            "etc/ssh/ssh_host_ed25519_key.pub": f"{KEY}\n",
            **{name.replace("__", "/"): text for name, text in more.items()},
        },
    )
    return identity


def plainly(path: Path, writes: Iterable[fat_replace.Write]) -> None:
    """Make writes without waiting for the disk after each."""
    with path.open("r+b") as file:
        for step in writes:
            file.seek(step.offset)
            file.write(step.data)


def taken(path: Path) -> None:
    """Remove the secrets from the boot partition, as a node does that has joined."""
    plainly(
        path, fat_replace.replace(path, boot_partition(path).start, {"pibake-secrets.tar": None}, epoch=1)
    )


class TestRead:
    def test_a_new_card_says_which_node_and_build_it_is(self, desk: Desk, image: Path) -> None:
        done = desk.run("card", "read", str(image))
        assert done.returncode == 0, done.stdout + done.stderr
        for words in ("node3.lab.example", "lab", "192.168.1.13/24", "has not happened yet", "Ubuntu 24.04",
                      "on the boot partition", "put the card into node3's board"):  # fmt: skip
            assert words in done.stdout
        found = desk.read(image)
        assert found["marker"]["base_sha256"] == found["marker"]["golden_sha256"] == desk.digest
        assert found["secrets"]
        assert found["pending"]

    def test_a_card_that_was_up_says_how_far_its_node_came(self, desk: Desk, image: Path) -> None:
        booted(image)
        taken(image)
        done = desk.run("card", "read", str(image))
        assert done.returncode == 0, done.stdout
        for words in ("happened", ", applied", "scrubbed: ok (2025-11-24", "network 12 s, scrubbed 31 s",
                      "not on the boot partition", "ed25519 SHA256:"):  # fmt: skip
            assert words in done.stdout

    def test_a_stage_that_failed_is_what_comes_next(self, desk: Desk, image: Path) -> None:
        booted(image, {**STATE, "stage": "endpoint", "status": "failed", "detail": "another CA; not joining"})
        said = desk.run("card", "read", str(image)).stdout
        assert "next: node3 stopped at `endpoint`: another CA; not joining" in said

    @ROOT
    def test_a_card_that_was_pulled_out_is_read_all_the_same(
        self, desk: Desk, image: Path, tmp_path: Path
    ) -> None:
        mount, pulled = tmp_path / "mnt", tmp_path / "pulled.img"
        mount.mkdir()
        with attached(image, "--offset", str(ext4.root_partition(image).start)) as device:
            tool("mount", device, mount)
            try:
                (mount / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
                tool("sync", "-f", mount)
                copied(image, pulled)
            finally:
                tool("umount", mount)
        done = desk.run("card", "read", str(pulled))
        assert done.returncode == 0, done.stdout
        assert "was not shut down cleanly" in done.stdout
        root = card.read(pulled).root
        assert root
        assert root.booted
        assert root.system.startswith("Ubuntu 24.04")
        after = card.read(image).root
        assert after
        assert after.clean

    def test_an_older_card_without_a_marker_tells_its_name(self, desk: Desk, image: Path) -> None:
        tool("mdel", "-i", f"{image}@@{boot_partition(image).start}", "::pibake.json")
        done = desk.run("card", "read", str(image))
        assert done.returncode == 0
        assert "node3" in done.stdout
        with pytest.raises(PibakeError, match="made by a pibake without markers"):
            desk.prepare(image)

    def test_a_card_of_another_maker_says_what_it_looks_like(self, desk: Desk) -> None:
        done = desk.run("card", "read", str(desk.base))
        assert done.returncode == 1
        assert "not pibake" in done.stdout
        assert "Ubuntu 24.04" in done.stdout
        assert "type 0c" in done.stdout

    def test_a_file_that_is_no_card_says_what_it_is(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "x.img").write_bytes(b"\xfd7zXZ\0" + bytes(2000))
        done = desk.run("card", "read", str(tmp_path / "x.img"))
        assert done.returncode == 1
        assert "it is still compressed" in done.stderr
        assert "there is no" in desk.run("card", "read", str(tmp_path / "y.img")).stderr

    @pytest.mark.parametrize(("part", "named"), [(0, "the boot partition"), (1, "the root file system")])
    def test_what_is_damaged_is_named_and_the_rest_is_read(
        self, desk: Desk, image: Path, part: int, named: str
    ) -> None:
        start = [boot_partition(image).start, ext4.root_partition(image).start][part]
        with image.open("r+b") as file:
            file.seek(start)
            file.write(b"\xa5" * 65536)
        done = desk.run("card", "read", str(image))
        assert done.returncode == 1
        assert named in done.stdout
        assert ("node3.lab.example" in done.stdout) == (part == 1)
        with pytest.raises(PibakeError, match="is damaged"):
            desk.prepare(image)

    @ROOT
    def test_a_device_is_read_and_reseeded_like_an_image(self, desk: Desk, image: Path) -> None:
        with attached(image) as device:
            assert desk.read(device)["hostname"] == "node3"
            desk.describe(address="192.168.1.23/24")
            done = desk.run("reseed", "node3", str(device), "--yes")
            assert done.returncode == 0, done.stderr
            assert desk.read(device)["marker"]["addresses"] == ["192.168.1.23/24"]
            with pytest.raises(PibakeError, match="is attached as /dev/loop"):
                desk.prepare(image)
        assert boot_files(image) == boot_files(desk.build(out="fresh"))

    def test_what_is_baked_in_and_changed_since_is_said(self, desk: Desk) -> None:
        issue = desk.folder / "overlays/door/etc/issue.d/door"
        issue.parent.mkdir(parents=True)
        issue.write_text("one\n")
        desk.describe(extra="  overlays: [door]\n")
        image = desk.build(out="baked")
        assert "baked in" not in desk.run("reseed", "node3", str(image), "--dry-run").stderr
        golden = desk.read(image)["marker"]["golden_sha256"]
        issue.write_text("two\n")
        desk.describe(extra="  overlays: [door]\n", address="192.168.1.33/24")
        done = desk.run("reseed", "node3", str(image), "--yes")
        assert "warning: what is baked in" in done.stderr
        assert "flash the card anew" in done.stderr
        assert desk.read(image)["marker"]["golden_sha256"] == golden

    @ROOT
    def test_a_mounted_card_is_not_reseeded(self, desk: Desk, image: Path, tmp_path: Path) -> None:
        (tmp_path / "mnt").mkdir()
        with attached(image, "--offset", str(ext4.root_partition(image).start)) as device:
            tool("mount", "-r", device, tmp_path / "mnt")
            try:
                said = desk.run("reseed", "node3", str(device), "--yes").stderr
                assert f"it is in use: {tmp_path / 'mnt'}" in said
            finally:
                tool("umount", tmp_path / "mnt")


def attached(image: Path, *options: str) -> Attached:
    return Attached(image, options)


class Attached:
    """A loop device for an image."""

    def __init__(self, image: Path, options: tuple[str, ...]) -> None:
        self.argv: tuple[str | Path, ...] = ("losetup", "--find", "--show", *options, image)

    def __enter__(self) -> Path:
        self.device = Path(tool(*self.argv).decode().strip())
        return self.device

    def __exit__(self, *_: object) -> None:
        tool("losetup", "-d", self.device)


class TestReseed:
    def test_the_seed_is_that_of_a_new_image(self, desk: Desk, image: Path) -> None:
        before = card.read(image)
        desk.describe(address="192.168.1.23/24", users={"ops": OTHER, "eve": KEY})
        done = desk.run("reseed", "node3", str(image))
        assert done.returncode == 0, done.stderr
        for words in ("address: 192.168.1.13/24 -> 192.168.1.23/24", "user eve: added",
                      "user ops: 1 key(s) added, 1 key(s) removed", "/etc/hosts"):  # fmt: skip
            assert words in done.stdout
        fresh = desk.build(out="fresh")
        assert boot_files(image) == boot_files(fresh)
        after = card.read(image)
        assert after.marker == card.read(fresh).marker
        assert after.instance_id != before.instance_id
        sound(image)

    def test_where_files_are_the_seed_it_is_that_of_a_new_image_too(self, tmp_path: Path) -> None:
        base = layouts.make("raspios-bookworm", tmp_path / "base.img", size=40)
        desk = Desk(tmp_path, base)
        image = copied(desk.build(), tmp_path / "card.img")
        found = card.read(image)
        assert found.marker
        assert found.marker.vehicle == "files"
        assert found.marker.golden_sha256 != found.marker.base_sha256
        desk.describe(address="192.168.1.23/24", users={"eve": OTHER})
        assert "user ops: removed" in desk.run("reseed", "node3", str(image)).stdout
        assert boot_files(image) == boot_files(desk.build(out="fresh"))
        put(image, {"var/lib/pibake/seed-id": card.read(image).instance_id})
        assert not card.read(image).pending
        sound(image)

    def test_nothing_to_change_changes_nothing(self, desk: Desk, image: Path) -> None:
        before = hashlib.sha256(image.read_bytes()).digest()
        done = desk.run("reseed", "node3", str(image))
        assert "has this very seed already" in done.stdout
        assert hashlib.sha256(image.read_bytes()).digest() == before

    def test_a_dry_run_says_the_same_and_changes_nothing(self, desk: Desk, image: Path) -> None:
        desk.describe(address="192.168.1.23/24")
        before = hashlib.sha256(image.read_bytes()).digest()
        said = json.loads(desk.run("reseed", "node3", str(image), "--dry-run", "--json").stdout)
        assert said["changes"][0] == "address: 192.168.1.13/24 -> 192.168.1.23/24"
        assert not said["written"]
        assert hashlib.sha256(image.read_bytes()).digest() == before

    def test_cut_off_anywhere_reseeding_again_ends_it(self, desk: Desk, image: Path, tmp_path: Path) -> None:
        taken(image)  # so that a new name is made, and not only known ones changed
        desk.describe(address="192.168.1.23/24", users={"ops": OTHER})
        writes = desk.prepare(image).writes
        wanted = boot_files(desk.build(out="fresh"))
        old = boot_files(image)
        broken = tmp_path / "broken.img"
        for count in range(len(writes) + 1):
            copied(image, broken)
            plainly(broken, writes[:count])
            found = boot_files(broken)
            assert found.keys() <= old.keys() | wanted.keys()
            for name, data in found.items():  # whole files, old or new
                assert data in {old.get(name), wanted.get(name)}, (count, name)
            if found["meta-data"] == wanted["meta-data"]:  # what makes it count comes last
                assert {**found, "pibake.json": b""} == {**wanted, "pibake.json": b""}
            plainly(broken, desk.prepare(broken).writes)
            assert boot_files(broken) == wanted, count

    def test_old_secrets_are_overwritten(self, image: Path) -> None:
        part = boot_partition(image)
        old = boot_files(image)["pibake-secrets.tar"]
        private = next(line for line in old.splitlines() if line.startswith(b"b3BlbnNzaC1rZXk"))
        files = {"pibake-secrets.tar": old.replace(private, b"A" * len(private))}
        rewrite(image, fat_replace.replace(image, part.start, files, epoch=1))
        with image.open("rb") as file:
            file.seek(part.start)
            assert private not in file.read(part.size)

    def test_a_booted_node_keeps_what_its_system_made_of_the_firmware_s_texts(
        self, desk: Desk, image: Path
    ) -> None:
        booted(image)
        taken(image)
        start = boot_partition(image).start
        line = (
            boot_files(image)["cmdline.txt"].decode().replace("root=LABEL=writable", "root=PARTUUID=1234-02")
        )
        steps = fat_replace.replace(
            image, start, {"cmdline.txt": line.encode(), "config.txt": b"dtparam=i2c_arm=on\n"}, epoch=1
        )
        rewrite(image, steps)
        desk.describe(address="192.168.1.23/24", users={"eve": KEY})
        done = desk.run("reseed", "node3", str(image))
        assert done.returncode == 0, done.stderr
        assert "secrets: on the boot partition again" in done.stdout
        assert "warning: user ops stays on the node" in done.stderr
        now = boot_files(image)
        assert b"root=PARTUUID=1234-02" in now["cmdline.txt"]
        assert now["config.txt"] == b"dtparam=i2c_arm=on\n"
        found = card.read(image)
        assert found.pending
        assert "applies the new seed the next time it boots" in desk.run("card", "read", str(image)).stdout

    def test_a_seed_that_comes_back_is_a_new_one_for_cloud_init(self, desk: Desk, image: Path) -> None:
        first = booted(
            image, STATE, **{f"var__lib__cloud__instances__{card.read(image).instance_id}__sem": ""}
        )
        desk.describe(address="192.168.1.23/24")
        plainly(image, desk.prepare(image).writes)
        second = booted(image)
        desk.describe()
        plainly(image, desk.prepare(image).writes)
        assert second != first
        found = card.read(image)
        assert found.instance_id == f"{first}-2"
        assert found.marker
        assert found.marker.instance_id == f"{first}-2"
        assert found.pending
        assert desk.prepare(image).words == ()

    def test_a_booted_node_with_the_same_seed_gets_no_secrets_back(self, desk: Desk, image: Path) -> None:
        booted(image)
        taken(image)
        assert "has this very seed already" in desk.run("reseed", "node3", str(image)).stdout
        assert not card.read(image).secrets

    def test_a_card_is_renamed_only_before_its_first_boot(self, desk: Desk, image: Path) -> None:
        assert desk.run("reseed", "node4", str(image)).returncode == 0
        assert card.read(image).hostname == "node4"
        assert boot_files(image) == boot_files(desk.build("node4", out="fresh"))
        booted(image)
        done = desk.run("reseed", "node3", str(image))
        assert done.returncode == 1
        assert "is node4, which has been booted" in done.stderr
        assert "pibake forget node4" in done.stderr

    def test_a_card_of_another_cluster_is_refused(self, desk: Desk, image: Path) -> None:
        desk.describe(cluster="attic")
        done = desk.run("reseed", "node3", str(image))
        assert done.returncode == 1
        assert "belongs to the cluster lab, not to attic" in done.stderr

    def test_a_card_of_a_base_that_is_gone_is_refused(self, desk: Desk, image: Path, tmp_path: Path) -> None:
        other = copied(desk.base, tmp_path / "other.img")
        with other.open("r+b") as file:
            file.seek(ext4.root_partition(other).start - 512)
            file.write(b"other")
        desk.describe(base=(other, hashlib.sha256(other.read_bytes()).hexdigest()))
        cache = desk.folder / "cache/pibake/names"
        pins = [path for path in cache.iterdir() if json.loads(path.read_text())["sha256"] == desk.digest]
        kept = {path: path.read_bytes() for path in pins}
        for path in pins:
            path.unlink()
        try:
            with pytest.raises(PibakeError, match="which the cache no longer has"):
                desk.prepare(image)
        finally:
            for path, data in kept.items():
                path.write_bytes(data)

    def test_another_base_in_cluster_yaml_is_fine_while_the_old_one_is_there(
        self, desk: Desk, image: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "newer.img").write_bytes(b"")
        desk.describe(address="192.168.1.23/24", base=(tmp_path / "newer.img", "0" * 64))
        assert "address" in desk.prepare(image).words[0]

    def test_a_card_without_what_the_new_seed_needs_is_refused(self, desk: Desk, image: Path) -> None:
        desk.describe(role="server", extra="kubernetes: {distribution: k3s, version: v1.31.4+k3s1}\n")
        with pytest.raises(PibakeError, match=r"holds no Kubernetes; .* wants k3s"):
            desk.prepare(image)

    def test_a_card_without_the_unit_that_the_new_seed_needs_is_refused(
        self, desk: Desk, image: Path
    ) -> None:
        path = desk.folder / "cluster.yaml"
        wifi = f"wifi: {{ssid: lab, psk: {PSK}, country: DE}}"
        text = path.read_text().replace("gateway: 192.168.1.1}", f"gateway: 192.168.1.1, {wifi}}}")
        path.write_text(text.replace("role: agent", "role: agent, link: wifi"))
        path.chmod(0o600)
        with pytest.raises(PibakeError, match=r"pibake-seed.service, which the card has not"):
            desk.prepare(image)

    def test_a_card_without_what_loads_the_rules_of_a_head_is_refused(
        self, desk: Desk, image: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "unit").write_text("[Unit]\n")
        units = ("pibake-seed.service", "pibake-install.service")
        orders = "".join(f"write {tmp_path}/unit {unit}\n" for unit in units)
        (tmp_path / "orders").write_text(f"cd etc/systemd/system\n{orders}")
        part = f"{image}?offset={ext4.root_partition(image).start}"
        tool("debugfs", "-w", "-f", tmp_path / "orders", part)
        path = desk.folder / "cluster.yaml"
        text = path.read_text().replace(", gateway: 192.168.1.1", "")
        path.write_text(f"{text}head: {{node: node3, upstream: {{port: eth1}}}}\n")
        with pytest.raises(PibakeError, match="no unit that loads its rules"):
            desk.prepare(image)

    def test_a_damaged_table_of_clusters_is_said(self, desk: Desk, image: Path) -> None:
        desk.describe(address="192.168.1.23/24")
        volume = Volume(image, boot_partition(image).start)
        entry = volume.find("user-data")
        assert entry
        with image.open("r+b") as file:
            file.seek(volume.table_start + entry.cluster * 4)
            file.write(entry.cluster.to_bytes(4, "little"))  # the first cluster leads to itself
        with pytest.raises(ImageError, match="the clusters of user-data do not hang together"):
            fat_replace.replace(image, volume.start, {"user-data": b"x"}, epoch=1)


def sound(image: Path) -> None:
    """Have the boot partition checked by fsck.vfat."""
    part = boot_partition(image)
    with image.open("rb") as file:
        file.seek(part.start)
        alone = image.with_suffix(".fat")
        alone.write_bytes(file.read(part.size))
    tool("fsck.vfat", "-n", alone)


@pytest.mark.parametrize(("bits", "size"), [(16, 32), (32, 64)])
def test_files_are_replaced_made_and_removed_as_mtools_would(tmp_path: Path, bits: int, size: int) -> None:
    image = tmp_path / "boot.fat"
    with image.open("wb") as file:
        file.truncate(size << 20)
    tool("mkfs.vfat", "-F", str(bits), "-s", "1", image)
    tool("mcopy", "-i", image, "-", "::user-data", data=b"old" * 1000)
    tool("mcopy", "-i", image, "-", "::CONFIG.TXT", data=b"")
    tool("mmd", "-i", image, "::current")
    wanted: dict[str, bytes | None] = {
        "user-data": b"new" * 7000, "config.txt": b"arm_64bit=1\n", "current/cmdline.txt": b"root=x\n", "empty": b"",
        **{f"a file with a long name {number}.json": bytes([number]) * 600 for number in range(9)},
    }  # fmt: skip
    for files in (wanted, {**wanted, "user-data": None, "a file with a long name 3.json": None, "new": b"1"}):
        rewrite(image, fat_replace.replace(image, 0, files, epoch=1_700_000_000))
        tool("fsck.vfat", "-n", image)
        found = fat.contents(image, 0, files)
        assert found == {name: data for name, data in files.items() if data is not None}


def test_a_full_partition_is_said_before_anything_is_written(tmp_path: Path) -> None:
    image = tmp_path / "boot.fat"
    with image.open("wb") as file:
        file.truncate(34 << 20)
    tool("mkfs.vfat", "-F", "32", "-s", "1", image)
    with pytest.raises(ImageError, match="no room for the new seed"):
        fat_replace.replace(image, 0, {"user-data": bytes(40 << 20)}, epoch=1)


def test_a_device_that_loses_a_write_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(4096))
    twice = [fat_replace.Write(512, b"a" * 512), fat_replace.Write(512, b"b" * 512)]
    rewrite(path, twice)
    assert path.read_bytes()[512:1024] == b"b" * 512
    monkeypatch.setattr(os, "pwrite", lambda _, data, __: len(data))
    with pytest.raises(VerificationError, match="at byte 1024 does not match"):
        rewrite(path, [*twice, fat_replace.Write(1024, b"c" * 512)])


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(PibakeError, match="missing cannot be written: No such file"):
        rewrite(tmp_path / "missing", ())
