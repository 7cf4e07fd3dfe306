"""All that a build downloads, on 127.0.0.1: bases in their vendors' layouts, k3s, Kubernetes' packages and a distribution's.

Files are small and the same at every run; their names, lists, digests and signatures are as the real ones are.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import yaml
import zstandard
from tests.tools import layouts, sites, wired
from tests.tools.httpd import Server
from tests.tools.test_debs import deb
from tests.tools.test_payload import Repository
from tests.tools.test_vendors_build import LAYOUT

from pibake.boards import BOARDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.tools.vendor import Keys

RING = "usr/share/keyrings/offline.gpg"
STATUS = (
    "Package: {}\nStatus: install ok installed\nMaintainer: A <a@example.org>\nArchitecture: arm64\n"
    "Version: {}\nDescription: x\n\n"
)
OCI = "application/vnd.oci.image"
KUBERNETES = ("kubeadm", "kubelet", "kubectl")


@dataclass
class Offline:
    """The servers, and the environment that names them."""

    folder: Path
    server: Server
    keys: Keys

    @property
    def environment(self) -> dict[str, str]:
        """What `pibake` has to be started with; nothing of the person's own is in it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIBAKE_")}
        return kept | {
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PIBAKE_CATALOG": str(self.folder / "catalog.yaml"),
            "PIBAKE_K3S_URL": f"{self.server.url}k3s",
            "PIBAKE_KUBERNETES_URL": f"{self.server.url}k8s",
            "PIBAKE_APT_URL": self.server.url.rstrip("/"),
        }

    def image(self, sha256: str) -> Path:
        """Return a base's image in the cache."""
        return self.folder / f"cache/pibake/images/sha256/{sha256}.img"

    def bases(self, names: Sequence[str]) -> None:
        """Publish stand-ins for bases, and write the catalogue in which they take the place of the real ones.

        That of debian-13 can boot from the wire.
        """
        entries, ring = {}, self.keys.export()
        for name in names:
            layout = LAYOUT[name]
            _, entry = sites.published(name)
            root = _sources(ring, layouts.LAYOUTS[layout]().packages)
            image = self.folder / f"{name}.img"
            if layout == "debian-13":
                wired.base(image, root=root)
            else:
                layouts.make(layout, image, boot=_firmware(entry["boards"]), root=root, size=40)
            packed = zstandard.ZstdCompressor().compress(image.read_bytes())
            image.unlink()
            self.server.add(f"{name}.img.zst", packed)
            proof = {"sha256": hashlib.sha256(packed).hexdigest()}
            entry.pop("assemble", None)
            entry["download"] = {"vendor": "offline", "folder": "", "file": f"{name}.img.zst", "proof": proof}
            entries[name] = entry
        listed = "".join(f'<a href="{name}.img.zst">{name}</a>\n' for name in names)
        self.server.add("", f"<html><body>{listed}</body></html>".encode())
        vendors = {"offline": {"url": self.server.url}}
        catalogue = yaml.safe_dump({"vendors": vendors, "bases": entries})
        (self.folder / "catalog.yaml").write_text(catalogue)

    def container(self, name: str, tag: str) -> str:
        """Put a container image into the cache as one that came before, and return its line of addons.lock."""
        packed = gzip.compress(f"{name}:{tag}".encode(), mtime=0)
        config = json.dumps(
            {"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": []}}
        )
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": _blob(config.encode(), f"{OCI}.config.v1+json"),
                "layers": [_blob(packed, f"{OCI}.layer.v1.tar+gzip")],
            }
        )
        folder = self.folder / "cache/pibake/containers"
        for kind, data in (
            ("manifests", config.encode()),
            ("manifests", manifest.encode()),
            (f"layers/{quote(name, safe='')}", packed),
        ):
            path = folder / kind / hashlib.sha256(data).hexdigest()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return f"{name} {tag} {hashlib.sha256(manifest.encode()).hexdigest()}\n"

    def k3s(self, version: str) -> None:
        """Publish a release of k3s."""
        files = {
            "k3s-arm64": layouts.program("arm64") + b"k3s",
            "k3s-airgap-images-arm64.tar.zst": zstandard.compress(b"images"),
        }
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
        for name, data in {**files, "sha256sum-arm64.txt": sums.encode()}.items():
            self.server.add(f"k3s/{version.replace('+', '%2B')}/{name}", data)

    def kubernetes(self, version: str, key: str) -> None:
        """Publish the apt repository of a Kubernetes release's minor version, with that release in it."""
        number = version.removeprefix("v")
        minor = number.rpartition(".")[0]
        folder = self.folder / f"kubernetes-{minor}"
        made = [
            deb(
                folder,
                name,
                version=f"{number}-1.1",
                more="Depends: cri-tools\n",
                **{f"usr__bin__{name}": name},
            )
            for name in KUBERNETES
        ]
        made += [
            deb(folder, name, version=f"{minor}.0-1.1", **{f"opt__{name}": name})
            for name in ("kubernetes-cni", "cri-tools")
        ]
        place = f"k8s/stable:/v{minor}/deb/"
        Repository(folder, self.keys, key, self.server).publish(place, made)
        self.server.add(f"{place}Release.key", self.keys.gpg("--armor", "--export", key))

    def distribution(self, packages: Mapping[str, str], key: str) -> None:
        """Publish the distribution's own packages: name -> what it depends on."""
        folder = self.folder / "distribution"
        made = [
            deb(folder, name, more=f"Depends: {needs or 'there'}\n", **{f"usr__share__{name}": name})
            for name, needs in packages.items()
        ]
        Repository(folder, self.keys, key, self.server).publish("debian/", made)


@contextmanager
def offline(folder: Path, keys: Keys) -> Iterator[Offline]:
    """Start the servers; what they serve is said by the methods of what this yields."""
    (folder / "home/.ssh").mkdir(parents=True)
    with Server() as server:
        yield Offline(folder, server, keys)


def _blob(data: bytes, kind: str) -> dict[str, str | int]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _firmware(boards: Sequence[str]) -> dict[str, layouts.Content | None]:
    """Return what makes boards boot, each with its own device tree."""
    known = [BOARDS[name] for name in boards]
    return {name: board.name for board in known for name in (*board.firmware, *board.device_trees[:1])}


def _sources(ring: bytes, packages: Mapping[str, str]) -> dict[str, str | bytes | None]:
    """Return what makes apt resolve packages against a base: its state, its sources, and the key that they are signed with."""
    source = f"deb [signed-by=/{RING}] https://distribution.example.org/debian/ /\n"
    return {
        "etc/apt/sources.list": source,
        RING: ring,
        "var/lib/dpkg/status": "".join(
            STATUS.format(*package) for package in [*packages.items(), ("there", "1")]
        ),
        "var/lib/dpkg/info/format": "1\n",
        "var/lib/dpkg/info/there.list": "/.\n",
        "var/lib/dpkg/info/there.md5sums": "",
        "var/lib/dpkg/arch": "arm64\n",
        "var/lib/dpkg/updates/": "",
        "var/lib/dpkg/triggers/File": "",
    }
