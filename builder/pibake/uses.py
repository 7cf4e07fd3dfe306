"""Which golden image each node of a cluster was made from last: what changed since is told, and the rest can go.

    uses/<hex>.json     {"folder": that of cluster.yaml, "cluster": its name, "nodes": {hostname: key of the golden image}}

The name is a sha256 of folder and cluster; nodes that flags describe share one record.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pibake.cache import made
from pibake.fsys import load, store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pibake.cache import Cache
    from pibake.plan import Plan
    from pibake.progress import Progress


def last(plan: Plan, cache: Cache) -> dict[str, str]:
    """Return the key of each node's golden image, by hostname; nodes without one are left out."""
    return dict(load(_path(plan, cache)).get("nodes", {}))


def remember(plan: Plan, keys: Mapping[str, str], cache: Cache, progress: Progress) -> None:
    """Note the golden images of some nodes; an empty key is none, and nodes that the plan lacks are forgotten."""
    with cache.lock("index", progress):
        before = last(plan, cache)
        names = {node.hostname for node in plan.nodes} if plan.folder else before.keys() | keys.keys()
        now = {name: key for name, key in sorted({**before, **keys}.items()) if key and name in names}
        if now != before:
            store(
                _path(plan, cache), {"folder": str(plan.folder or ""), "cluster": plan.cluster, "nodes": now}
            )


def records(cache: Cache) -> Iterator[tuple[Path, dict[str, Any], bool]]:
    """Yield every record with its path, and whether its cluster.yaml is still there."""
    for path in sorted((cache.root / "uses").glob("*.json")):
        record = load(path)
        folder = record.get("folder", "")
        yield path, record, not folder or Path(folder).is_dir()


def needed(cache: Cache) -> set[str]:
    """Return the keys of all golden images that a node was made from last."""
    return {key for _, record, there in records(cache) if there for key in record.get("nodes", {}).values()}


def _path(plan: Plan, cache: Cache) -> Path:
    name = hashlib.sha256(os.fsencode(plan.folder or "") + f"\0{plan.cluster}".encode()).hexdigest()[:32]
    return made(cache.root / "uses") / f"{name}.json"
