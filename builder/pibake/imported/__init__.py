"""User-data of HypriotOS and files of Raspberry Pi Imager -> `Imported`: one node of a cluster.yaml.

Readers collect a `Draft` (`cloud` and what it calls for cloud-init's files, `imager` for Imager's own), `decide` makes
one node of it, and `render` writes it down. Texts in, values out: nothing here touches a disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.errors import ConfigError
from pibake.imported import cloud, document, firstrun, imager, netconfig
from pibake.imported.decide import decide
from pibake.imported.render import cluster_yaml, node_entry
from pibake.imported.values import Account, Draft, Imported, Note, Wifi

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FILES", "Account", "Imported", "Note", "Wifi", "cluster_yaml", "node_entry", "read"]

FILES = ("user-data", "network-config", "meta-data", "rpi-preseed.toml", "custom.toml", "firstrun.sh")
"""What is read of a boot partition."""


def read(files: Mapping[str, tuple[str, bytes]], source: str) -> Imported:
    """Return what files come to.

    Args:
        files: name out of `FILES` -> the path to show in messages, and the bytes.
        source: what was asked for, for messages.

    Raises:
        ConfigError: a file is not what its name says, or there is nothing in any.
    """
    draft = Draft()
    found = False
    if "user-data" in files:
        path, raw = files["user-data"]
        top = document.cloud_config(raw, path)
        if top:
            cloud.user_data(draft, top)
            found = True
    for name, reader in (("network-config", netconfig.read), ("meta-data", cloud.meta_data)):
        path, raw = files.get(name, ("", b""))
        top = document.parse(raw, path) if raw.strip() else None
        if top:
            reader(draft, top)
            found = found or name == "network-config"
    for name in ("rpi-preseed.toml", "custom.toml", "firstrun.sh"):
        if name not in files:
            continue
        path, raw = files[name]
        if found:
            draft.left(path, name, "another file of this folder was read instead")
        else:
            (firstrun.read if name == "firstrun.sh" else imager.toml)(draft, raw, path)
            found = True
    if not found:
        raise ConfigError(
            [f"{source}: there is nothing in it to import\n   hint: all of it is comments, or empty"]
        )
    return decide(draft)
