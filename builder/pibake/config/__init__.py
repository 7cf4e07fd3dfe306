"""cluster.yaml -> `Cluster`: what the user wrote, typed and checked, or every mistake in it at once.

`load` decodes (`syntax`), composes and walks (`marks`), types (`model`, `check`), compares (`rules`) and looks
for the files it names (`files`); what any of them finds is a `Problem`, and all are rendered together (`problems`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pibake.errors import ConfigError, PibakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from pibake.config.addon import Addon
    from pibake.config.model import ClusterFile, Node
    from pibake.config.overlays import Item
    from pibake.config.problems import Problem

__all__ = ["FILE_NAME", "Cluster", "adhoc", "find", "json_schema", "load"]

FILE_NAME = "cluster.yaml"


@dataclass(frozen=True)
class Cluster:
    """A checked cluster.yaml, with what was read from the files it names.

    Attributes:
        file: what the user wrote, typed.
        source: the cluster.yaml, or None when the values came by flags.
        files_read: the key files whose content is in `keys`.
        keys: key file, as written -> its public keys.
        overlays: overlay -> its folder.
        items: overlay -> what is in it.
        images: other file or folder, as written -> its absolute path.
        debs: path of packages, as written -> the .deb files it stands for.
        hooks: hook -> its program.
        addons: what runs in the cluster when it comes up, in the order in which it is written.
    """

    file: ClusterFile
    source: Path | None
    files_read: tuple[Path, ...]
    keys: Mapping[str, tuple[str, ...]]
    overlays: Mapping[str, Path]
    items: Mapping[str, tuple[Item, ...]]
    images: Mapping[str, Path]
    debs: Mapping[str, tuple[Path, ...]]
    hooks: Mapping[str, Path]
    addons: tuple[Addon, ...] = ()

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, each with what its class and `defaults` say where it says nothing itself."""
        from pibake.config import layers  # noqa: PLC0415 - as in `load`

        return layers.resolved(self.file)


def find(start: Path) -> Path | None:
    """Return the cluster.yaml of a folder or the nearest folder above it."""
    folder = start.absolute()
    return next((p for f in (folder, *folder.parents) if (p := f / FILE_NAME).is_file()), None)


def load(path: Path, *, bases: Collection[str]) -> Cluster:
    """Read a cluster.yaml.

    Args:
        path: the file.
        bases: names of the base images there are.

    Raises:
        ConfigError: with every problem of the file, in the order of their places.
    """
    from pibake.config import addons, marks, problems  # noqa: PLC0415 - a tenth of a second that `--help` should not pay

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PibakeError(
            f"cannot read {path}: {error.strerror}", "`pibake init` writes one to start from"
        ) from None
    document = marks.parse(raw, problems.display(path))
    named = map(document.span, addons.secret_places(document.data))
    document.secrets += [span for span in named if span not in document.secrets]
    return _checked(document.data, bases, path, document.problems, document.render)


def adhoc(
    *,
    hostname: str,
    base: str = "",
    address: str = "",
    gateway: str = "",
    dns: Sequence[str] = (),
    ssh_keys: Sequence[str] = (),
    user: str = "",
    bases: Collection[str],
) -> Cluster:
    """Return the cluster of one node that flags describe; the same rules, with flags named instead of lines.

    Args:
        hostname: the node's name, short or full.
        base: a catalogue name, or `FILE#sha256=...` or `URL#sha256=...`; the default base unless given.
        address: address with prefix; the subnet follows from it.
        gateway: the router, if any.
        dns: name servers; the gateway unless given.
        ssh_keys: public keys, .pub files or https URLs.
        user: who logs in with them; `pi` unless given.
        bases: names of the base images there are.
    """
    from pibake.config import flags  # noqa: PLC0415 - as in `load`

    data, missing = flags.values_of(
        hostname=hostname, base=base, address=address, gateway=gateway, dns=dns, ssh_keys=ssh_keys, user=user
    )
    return _checked(data, bases, None, missing, flags.render)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of cluster.yaml."""
    from pibake.config import schema  # noqa: PLC0415 - as in `load`

    return schema.json_schema()


def _checked(
    data: Any,
    bases: Collection[str],
    source: Path | None,
    found: Sequence[Problem],
    render: Callable[[Iterable[Problem]], list[str]],
) -> Cluster:
    """Put values through every check; return the cluster, or raise with what was found before and here."""
    from pibake.config import (  # noqa: PLC0415 - as in `load`
        addons,
        check,
        files,
        rules,
        rules_addons,
        rules_disks,
        rules_head,
        rules_kubernetes,
        rules_network,
        rules_pools,
        rules_wire,
    )

    folder = source.parent if source else Path.cwd()
    named = files.Files(folder.absolute())
    typed, shape = check.read(data)
    between = [
        *rules.check(data, bases),
        *rules_network.check(data),
        *rules_kubernetes.check(data),
        *rules_wire.check(data),
        *rules_addons.check(data),
        *rules_pools.check(data),
        *rules_disks.check(data),
        *rules_head.check(data),
    ]
    chosen = addons.read(data, named)
    problems = [*found, *shape, *between, *named.find(data), *chosen.problems]
    if typed is None or problems or named.elsewhere:
        raise ConfigError([*render(problems), *named.elsewhere])
    return Cluster(
        file=typed,
        source=source.absolute() if source else None,
        files_read=tuple(named.read),
        keys=MappingProxyType(named.keys),
        overlays=MappingProxyType(named.overlays),
        items=MappingProxyType(named.items),
        images=MappingProxyType(named.images),
        debs=MappingProxyType(named.debs),
        hooks=MappingProxyType(named.hooks),
        addons=tuple(chosen.found),
    )
