"""The secrets in a node's seed: served until the node has booted with them and says that it needs them no more, then withdrawn.

The node removes its archive itself when it has joined; here it is seen to, whatever the node did, and a seed that changes
for another reason does not bring them back. It cannot simply come without: cloud-init locks the passwords of all users
whenever a seed is new to it, so their hashes come along once more, and the host key, as these stand in one archive.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pibake.fsys import load, store
from pibake.rack.values import OK
from pibake.seed import SECRETS_FILE
from pibake.seed.archive import tar
from pibake.seed.own import PASSWORDS
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pibake.netboot.values import Client
    from pibake.seed import Seed
    from pibake.serve.folders import Folders

RECORD = "secrets.json"
"""Of which secrets a node's seed was made (`sha256`), when they were put in place (`placed`, seconds since 1970), and whether
the node is through with them (`withdrawn`)."""
HOST_KEYS = "etc/ssh/ssh_host_"


def placed(folder: Path, seed: Seed) -> Tree:
    """Return the files of a seed to put in place now, and note that; secrets the node is through with are not among them.

    Args:
        folder: the node's own.
        seed: rendered for it, with all its secrets.
    """
    if SECRETS_FILE not in seed.tree.files:
        return seed.tree
    archive = seed.tree[SECRETS_FILE]
    digest, before = hashlib.sha256(archive.data).hexdigest(), load(folder / RECORD)
    through = before.get("sha256") == digest and before.get("withdrawn") is True
    store(folder / RECORD, {"sha256": digest, "placed": time.time(), "withdrawn": through})
    if not through:
        return seed.tree
    others = {path: file for path, file in seed.tree if path != SECRETS_FILE}
    if PASSWORDS in seed.secret.files:
        own = {path: file for path, file in seed.secret if path == PASSWORDS or path.startswith(HOST_KEYS)}
        others[SECRETS_FILE] = File(tar(Tree(own)), archive.mode)
    return Tree(others)


def withdraw(client: Client, report: Mapping[str, Any], folders: Folders) -> None:
    """Take a node's secrets out of its export if it reports that it needs them no more.

    Not so with `state: ram`, where the node starts anew and joins again at each boot; nor with `root: nbd`, where they
    are on the node's own disk. Secrets that were put there after its kernel had started, it has not seen yet.

    Args:
        client: the node.
        report: what it has just said of itself, as `reports.parsed` leaves it.
        folders: the server's.
    """
    done = (report["stage"], report["status"]) == ("scrubbed", OK)
    if not done or client.root != "nfs" or client.state == "ram":
        return
    folder = folders.node(client.hostname)
    record = load(folder / RECORD)
    if time.time() - report["uptime"] <= record.get("placed", 0):
        return
    (folder / "export/boot" / SECRETS_FILE).unlink(missing_ok=True)
    with suppress(OSError):  # on a full disk the secrets are gone all the same, until the seed changes
        store(folder / RECORD, {**record, "withdrawn": True})
