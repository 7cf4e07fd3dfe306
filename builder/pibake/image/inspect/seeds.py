"""How cloud-init's NoCloud data source comes to a seed (cloudinit/sources/DataSourceNoCloud.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image.inspect.boot import SEED
from pibake.image.inspect.cloud import section

if TYPE_CHECKING:
    from pibake.image.inspect.boot import Boot
    from pibake.image.inspect.cloud import Cloud
    from pibake.image.inspect.root import Root

FOLDERS = ("var/lib/cloud/seed/nocloud", "var/lib/cloud/seed/nocloud-net")
"""Where it looks first; a folder counts if it has user-data and meta-data, and the first one that counts is taken."""
LABEL = "cidata"
ANY_CASE = (19, 1)
"""Since this version a label is compared in upper and in lower case."""
SEEDFROM_NETWORK = (24, 3)
"""Since this version a seed that is named by URL may hold a network-config."""


@dataclass(frozen=True)
class _Ways:
    """How the boot partition's seed is found, under which names, and what other seeds there are; empty where none."""

    found_by: str = ""
    files: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def locate(root: Root, boot: Boot, mount: str, cloud: Cloud) -> tuple[str, tuple[str, ...]]:
    """Return how cloud-init finds the seed on the boot partition, and the names of the files it reads there.

    Args:
        root: the system.
        boot: its boot partition.
        mount: where the system mounts that, without leading slash.
        cloud: its cloud-init.

    Raises:
        ImageError: it does not find one there, or another one as well.
    """
    own = section(cloud.config, "datasource", "NoCloud")
    urls = [*_sources(boot, cloud), *([str(own["seedfrom"])] if own.get("seedfrom") else [])]
    label = own.get("fs_label", LABEL)
    ways = _linked(root, boot, mount)
    here = [url for url in urls if url.removeprefix("file://").rstrip("/") == f"/{mount}"]
    others = [*ways.others, *(f"the seed at {url}" for url in urls if url not in here)]
    if "user-data" in own and "meta-data" in own:
        others.append("the user-data in /etc/cloud")
    if not ways.found_by and label is not None and _matches(boot, str(label), cloud.release):
        ways = _Ways("label", SEED)
    if not ways.found_by and here:
        ways = _Ways("seedfrom", SEED if cloud.release >= SEEDFROM_NETWORK else SEED[:2])
    if others:
        raise ImageError(
            f"{boot.image.name}: cloud-init would read {' and '.join(others)}"
            + (f" beside the one on the boot partition (found by {ways.found_by})" if ways.found_by else "")
            + ", and merge or prefer what is in there",
            "remove the other seed from the image, or use the vendor's own image as base",
        )
    if not ways.found_by:
        raise ImageError(
            f"{boot.image.name}: cloud-init would find no seed on the boot partition: its label is "
            f"{boot.identity.label or 'empty'}, not {label}; no link in /{' or /'.join(FOLDERS)} leads to /{mount}; "
            "and no `seedfrom` does",
            f"label the partition {label}, or set datasource: NoCloud: fs_label: in /etc/cloud/cloud.cfg.d of the image",
        )
    return ways.found_by, ways.files


def _sources(boot: Boot, cloud: Cloud) -> list[str]:
    """Return the seeds that command lines name; `ImageError` if cloud-init is told to use another data source."""
    listed = cloud.config.get("datasource_list", ["NoCloud"])
    names = [str(name) for name in listed] if isinstance(listed, list) else [str(listed)]
    asked = [
        word.partition("=")[2]
        for word in sorted(cloud.words)
        if word.startswith(("ds=", "ci.ds=", "ci.datasource="))
    ]
    wrong = next((f"ds={value}" for value in asked if not value.lower().startswith("nocloud")), "")
    if "NoCloud" not in names or wrong:
        said = (
            f"the kernel command line has {wrong}"
            if wrong
            else f"datasource_list in /etc/cloud is [{', '.join(names)}]"
        )
        raise ImageError(
            f"{boot.image.name}: cloud-init does not look for a seed on the boot partition: {said}, and NoCloud is the "
            "data source that does",
            "use the vendor's image for the Raspberry Pi, not one for a cloud",
        )
    pairs = [pair.partition("=") for value in asked for pair in value.split(";")[1:]]
    return [value for key, _, value in pairs if key in {"s", "seedfrom"}]


def _linked(root: Root, boot: Boot, mount: str) -> _Ways:
    """Return what the folders for seeds hold: links to the boot partition, or a seed of their own."""
    for folder in FOLDERS:
        places = {name: root.files.find(f"{folder}/{name}") for name in SEED}
        outside = {
            n: path.removeprefix(f"{mount}/")
            for n, (path, _) in places.items()
            if path.startswith(f"{mount}/")
        }
        inside = [name for name, (_, node) in places.items() if node and name not in outside]
        if not {"user-data", "meta-data"} <= {*outside, *inside}:
            continue
        if "user-data" in outside:
            return _Ways("link", tuple(outside[name] for name in SEED if name in outside))
        data = root.files.read(f"{folder}/user-data") or b""
        if data.decode("utf-8", "replace") != boot.texts.get(boot.find("user-data")):
            return _Ways(others=(f"the seed in /{folder}",))
        return _Ways()
    return _Ways()


def _matches(boot: Boot, label: str, release: tuple[int, ...]) -> bool:
    if release < ANY_CASE:
        return boot.identity.label == label
    return boot.identity.label in {label.upper(), label.lower()} or boot.identity.block_label == label
