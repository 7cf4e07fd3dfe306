"""The vendors of the catalogue on 127.0.0.1: their folders, names, lists and signatures, signed by a test key."""

from __future__ import annotations

import copy
import functools
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from tests.tools.httpd import Server
from tests.tools.images import tool
from tests.tools.vendor import Keys, Shop

from pibake import catalog, resources
from pibake.catalog import Download
from pibake.proof import ClearsignedSums, Pinned, SignedImage, SignedSums, Unsigned, named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pibake.proof import Proof

RASPIOS = "raspios_lite_arm64/images/raspios_lite_arm64-"
HYPRIOT = "DieterReuter/image-builder-rpi64/releases/download/v20180429-184538/hypriotos-rpi64"
CENTOS = "altarch/7.9.2009/isos/armhfp/CentOS-Userland-7-armv7hl-RaspberryPI-Minimal"
PUBLISHED = {
    "ubuntu-26.04": "releases/26.04/release/ubuntu-26.04-preinstalled-server-arm64+raspi.img.xz",
    "ubuntu-24.04": "releases/24.04/release/ubuntu-24.04.3-preinstalled-server-arm64+raspi.img.xz",
    "ubuntu-22.04": "releases/22.04/release/ubuntu-22.04.5-preinstalled-server-arm64+raspi.img.xz",
    "ubuntu-20.04": "releases/20.04/release/ubuntu-20.04.5-preinstalled-server-arm64+raspi.img.xz",
    "ubuntu-18.04-raspi4": "releases/18.04/release/ubuntu-18.04.5-preinstalled-server-arm64+raspi4.img.xz",
    "ubuntu-18.04-raspi3": "releases/18.04/release/ubuntu-18.04.5-preinstalled-server-arm64+raspi3.img.xz",
    "raspios-trixie-lite": f"{RASPIOS}2026-06-19/2026-06-18-raspios-trixie-arm64-lite.img.xz",
    "raspios-bookworm-lite": "raspios_oldstable_lite_arm64/images/raspios_oldstable_lite_arm64-2026-04-14/"
    "2026-04-13-raspios-bookworm-arm64-lite.img.xz",
    "debian-12-raspi4": "tested/20231109_raspi_4_bookworm.img.xz",
    "debian-12-raspi3": "tested/20231109_raspi_3_bookworm.img.xz",
    "hypriotos-rpi64": f"{HYPRIOT}-v20180429-184538.img.zip",
    "hypriotos-1.12": "hypriot/image-builder-rpi/releases/download/v1.12.3/hypriotos-rpi-v1.12.3.img.zip",
    "centos-7-raspi4": f"{CENTOS}-4-2009-sda.raw.xz",
    "centos-7-raspi3": f"{CENTOS}-2009-sda.raw.xz",
}
"""Where vendors had the file of each entry, by public notes of 2020 to 2026; below the vendor's own root."""

OWN = {
    "clearsigned-1": ("lists/clear-1.0.img.xz", "clear-1.*.img.xz", {"clearsigned": "sha256sum.txt.asc"}),
    "pinned-1": ("pinned-1.0.img.xz", "pinned-1.0.img.xz", {"sha256": "0" * 64}),
    "unsigned-1": ("tested/20231109_board_4.img.xz", "*_board_4.img.xz", {"sums": "*.sha256"}),
}
"""What no vendor of pibake's catalogue has, but somebody's own may: path, pattern of the file, and proof."""


@dataclass
class Site(Shop):
    """The server of one entry's vendor, and a catalogue that trusts the test key in the place of the vendor's."""

    base: str

    @property
    def path(self) -> str:
        return PUBLISHED[self.base] if self.base in PUBLISHED else OWN[self.base][0]

    @property
    def proof(self) -> Proof:
        text = (self.folder / "catalog.yaml").read_text()
        source = catalog.parse(text, self.folder / "keys")[self.base].source
        assert isinstance(source, Download)
        return source.proof

    def put(
        self, path: str = "", *, packed: bytes = b"", called: str = "", by: str = "", at: str = ""
    ) -> None:
        """Publish a file the way its vendor does.

        `called` is what the list of digests says instead of the file's name, `by` another key that signs, `at` when.
        """
        path, packed, by = path or self.path, packed or self.packed, by or self.key
        folder, _, file = path.rpartition("/")
        at_folder = f"{folder}/" if folder else ""
        sums = f"{hashlib.sha256(packed).hexdigest()}  {called or file}\n".encode()
        self.server.add(path, packed)
        match self.proof:
            case SignedSums(list_, signature):
                self.server.add(at_folder + list_, sums)
                self.server.add(at_folder + signature, self.keys.sign(sums, by, at=at))
            case ClearsignedSums(list_):
                self.server.add(at_folder + list_, self.keys.clearsign(sums, by, at=at))
            case SignedImage(list_, signature):
                self.server.add(at_folder + named(list_, file), sums)
                self.server.add(at_folder + named(signature, file), self.keys.sign(packed, by, at=at))
            case Unsigned(list_):
                self.server.add(at_folder + named(list_, file), sums)
            case Pinned():
                self.change_catalog("0" * 64, hashlib.sha256(packed).hexdigest())
        self._index()

    def replace(self, packed: bytes) -> None:
        """Put another file in the place of the right one, as who has the server but not the key can."""
        signatures = {
            name: resource.data
            for name, resource in self.server.files.items()
            if name.endswith((".gpg", ".sig"))
        }
        match self.proof:
            case ClearsignedSums(list_):
                old, new = (hashlib.sha256(data).hexdigest().encode() for data in (self.packed, packed))
                self.server.add(self.path, packed)
                name = f"{self.path.rpartition('/')[0]}/{list_}"
                self.server.add(name, self.server.files[f"/{name}"].data.replace(old, new))
            case Pinned():
                self.server.add(self.path, packed)
            case _:
                self.put(packed=packed)
        for name, data in signatures.items():
            self.server.add(name.lstrip("/"), data)

    def change_catalog(self, old: str, new: str) -> None:
        path = self.folder / "catalog.yaml"
        path.write_text(path.read_text().replace(old, new))
        catalog._entries.cache_clear()  # read once in a process

    def trust(self, key: str) -> None:
        """Name another key in the catalogue, and put it where the old one was."""
        self.change_catalog(self.key, key)
        (self.folder / "keys" / "vendor.gpg").write_bytes(self.keys.export(key))

    def pull(self, *options: str) -> tuple[int, str]:
        """Pull the base; return the exit status and all that was said."""
        done = self.run("base", "pull", self.base, *options)
        return done.returncode, done.stdout + done.stderr

    def assert_pulled(self) -> None:
        code, said = self.pull()
        assert code == 0, said
        assert hashlib.sha256(self.image).hexdigest() in said
        self.assert_sound()

    def _index(self) -> None:
        """Write the page of every folder, as web servers do."""
        paths = [path.lstrip("/") for path in self.server.files if not path.endswith("/")]
        for folder in {path[: path.rindex("/") + 1] for path in paths if "/" in path}:
            parts = folder.split("/")[:-1]
            for depth in range(len(parts) + 1):
                above = "/".join(parts[:depth]) + "/" if depth else ""
                inside = {p.removeprefix(above) for p in paths if p.startswith(above)}
                names = sorted({n.partition("/")[0] + ("/" if "/" in n else "") for n in inside})
                rows = "".join(f'<tr><td><a href="{n}">{n}</a></td></tr>\n' for n in names)
                page = f'<html><body><a href="?C=M;O=D">Last modified</a><table>{rows}</table></body></html>'
                self.server.add(above, page.encode())


def certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 with its private key, in one file."""
    key, made = folder / "key.pem", folder / "certificate.pem"
    tool("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", made)  # fmt: skip
    made.write_bytes(made.read_bytes() + key.read_bytes())
    return made


def published(base: str) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    """Return all vendors, and the entry of one base: of pibake's own catalogue, or of OWN."""
    tree = copy.deepcopy(_catalogue())
    if base in tree["bases"]:
        return tree["vendors"], tree["bases"][base]
    path, file, proof = OWN[base]
    above = path.rpartition("/")[0]
    download = {"vendor": "own", "folder": f"{above}/" if above else "", "file": file, "proof": proof}
    entry = {**tree["bases"]["ubuntu-24.04"], "title": base, "download": download}
    return {"own": {"key": "", "fingerprint": ""}}, entry


@functools.cache
def _catalogue() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(resources.text("images", "catalog.yaml"))
    return tree


@contextmanager
def site(
    folder: Path, *, base: str, keys: Keys, key: str, image: bytes, packed: bytes, tls: Path | None
) -> Iterator[Site]:
    """Open the server of a base's vendor, and write its entry of pibake's own catalogue with that address and the test key."""
    (folder / "keys").mkdir()
    (folder / "keys" / "vendor.gpg").write_bytes(keys.export(key))
    vendors, entry = published(base)
    with Server(tls) as server:
        for vendor in vendors.values():
            vendor["url"] = server.url
            if "key" in vendor:
                vendor |= {"key": "vendor.gpg", "fingerprint": key}
        (folder / "catalog.yaml").write_text(yaml.safe_dump({"vendors": vendors, "bases": {base: entry}}))
        yield Site(server, folder, image, packed, keys, key, base)
