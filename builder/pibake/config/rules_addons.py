"""What add-ons must be to each other, to Kubernetes and to the boards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake import offers
from pibake.boards import BOARDS, GENERIC
from pibake.config import kube, membership, values
from pibake.config.check import value
from pibake.config.problems import Loc, Problem, flow, listing
from pibake.config.rules import items, source, typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pibake.offers import Entry

SERVER, AGENT = 600, 200
"""MiB that Kubernetes itself takes on a board, at the least (k3s documentation, "Resource profiling")."""


def check(data: Any) -> Iterator[Problem]:
    """Yield every problem between add-ons, and between them and the rest of the file."""
    written = value(data, ("addons",))
    if not isinstance(written, dict) or not written:
        return
    if value(data, ("kubernetes",)) is None:
        yield Problem(
            ("addons",),
            "add-ons mean nothing without `kubernetes:`",
            f"add `kubernetes: {{distribution: k3s, version: ...}}`; it is one of {listing(membership.DISTRIBUTIONS)}",
            on_key=True,
        )
        return
    chosen = {name: entry for name in written if (entry := offers.catalogue().get(name))}
    yield from _plugins(data, chosen)
    for name, entry in chosen.items():
        yield from _company(written, chosen, name, entry)
        yield from _depends(written[name], name, entry)
        yield from _old(data, name, entry)
        yield from _roots(data, name, entry)
    yield from _classes(data, written, chosen)
    if value(data, ("kubernetes", "distribution")) == "k3s":
        yield from _k3s(data, written, chosen)
    yield from _memory(data, chosen)


def _plugins(data: Any, chosen: Mapping[str, Entry]) -> Iterator[Problem]:
    plugins = [name for name, entry in chosen.items() if entry.provides == "cni"]
    for name in plugins[1:]:
        yield Problem(
            ("addons", name),
            f"{name} and {plugins[0]} are both network plugins, and a cluster has one",
            "keep one of them",
            on_key=True,
            first=("addons", plugins[0]),
        )
    if plugins and value(data, ("kubernetes", "cni")) == "flannel":
        yield Problem(
            ("kubernetes", "cni"),
            f"flannel of the bundle would stand beside the add-on {plugins[0]}, and a cluster has one network plugin",
            "leave `cni` out",
            first=("addons", plugins[0]),
        )


def _company(
    written: Mapping[str, Any], chosen: Mapping[str, Entry], name: str, entry: Entry
) -> Iterator[Problem]:
    for other in entry.needs.addons:
        if other not in written:
            message = f"{name} needs the add-on {other}"
            yield Problem(("addons", name), message, f"add `{other}:` to `addons`", on_key=True)
    earlier = list(chosen)[: list(chosen).index(name)]
    for other in earlier:
        both = entry.provides == chosen[other].provides == "cni"  # told by `_plugins`
        if not both and (other in entry.conflicts or name in chosen[other].conflicts):
            yield Problem(
                ("addons", name),
                f"{name} cannot stand beside {other}",
                "keep one of them",
                on_key=True,
                first=("addons", other),
            )


def _depends(raw: Any, name: str, entry: Entry) -> Iterator[Problem]:
    written = raw if isinstance(raw, dict) else {}
    for rule in entry.depends:
        if not all(_is(entry, written, key, wanted) for key, wanted in rule.when.items()):
            continue
        for key in rule.need:
            option = entry.options[key]
            if written.get(key) is None and option.default is None and key not in entry.generated:
                place = next((("addons", name, other) for other in rule.when if other in written), None)
                example = option.examples[0] if option.examples else None
                yield Problem(
                    place or ("addons", name),
                    f"`{key}` is missing from {name}: {rule.why.rstrip('.')}",
                    f"add `{key}: {flow(example)}`",
                    on_key=place is None,
                )


def _is(entry: Entry, written: Mapping[str, Any], key: str, wanted: Any) -> bool:
    """Tell whether an option has a value; `true`, where the option is not itself true or false, stands for any."""
    option = entry.options[key]
    found = written[key] if written.get(key) is not None else option.default
    if wanted is True and option.type != "boolean":
        return found is not None
    return found is not None and str(found).lower() == str(wanted).lower()


def _classes(data: Any, written: Mapping[str, Any], chosen: Mapping[str, Entry]) -> Iterator[Problem]:
    """Yield a problem for each further add-on whose storage class would be the default one."""
    k3s = value(data, ("kubernetes", "distribution")) == "k3s"
    usual = [
        name
        for name, entry in chosen.items()
        if entry.provides == "default-storage-class"
        and not (k3s and entry.k3s.bundled)  # told as a warning: it stands there without being asked for
        and _is(entry, written[name] if isinstance(written[name], dict) else {}, "default", "true")
    ]
    for name in usual[1:]:
        yield Problem(
            ("addons", name),
            f"the storage classes of {usual[0]} and of {name} are both the default one",
            "write `default: false` at one of them",
            on_key=True,
            first=("addons", usual[0]),
        )


def _old(data: Any, name: str, entry: Entry) -> Iterator[Problem]:
    version = typed(membership.version, value(data, ("kubernetes", "version")))
    least = entry.needs.kubernetes
    if version and least and _minor(version.removeprefix("v")) < _minor(least):
        yield Problem(
            ("kubernetes", "version"),
            f"{name} needs Kubernetes {least} or newer, and this is {version}",
            "take a newer release, or leave the add-on out",
            first=("addons", name),
        )


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def _roots(data: Any, name: str, entry: Entry) -> Iterator[Problem]:
    """Yield a problem for each node that boots from the wire with an NFS root, where the add-on needs a disk.

    A board that is known by its `mac` or `serial` may as well boot from a card: that it boots from the wire says
    `root: nfs`, or a section `netboot`.
    """
    if entry.needs.root != "local":
        return
    for index, node in enumerate(items(data, "nodes")):
        own = value(node, ("root",))
        root = value(data, source(data, index, "root"))
        root = root or ("nfs" if value(data, ("netboot",)) is not None else None)
        known = value(node, ("mac",)) is not None or value(node, ("serial",)) is not None
        state = str(value(data, source(data, index, "state")) or "")
        if root != "nfs" or not known or state.startswith(("LABEL=", "/dev/")):
            continue
        place: Loc = ("nodes", index, "root") if own else ("nodes", index, "hostname")
        yield Problem(
            place,
            f"{name} keeps data on the nodes' own disks, and this one boots from the wire with its root on NFS",
            "give it `root: nbd`, or `state: LABEL=...` with a disk of its own",
            first=("addons", name),
        )


def _k3s(data: Any, written: Mapping[str, Any], chosen: Mapping[str, Entry]) -> Iterator[Problem]:
    place: Loc = ("kubernetes", "disable")
    disabled = value(data, place)
    for name, entry in chosen.items() if isinstance(disabled, list) else ():
        if lacking := [part for part in entry.k3s.disable if part not in disabled]:
            meant = flow([part for part in disabled if isinstance(part, str)] + lacking)
            yield Problem(
                place,
                f"{name} does not go with k3s' {' and '.join(lacking)}, which this list leaves on",
                f"write `disable: {meant}`, or leave it out: pibake adds what add-ons need",
                on_key=True,
                first=("addons", name),
            )
        part = entry.k3s.component or name
        if entry.k3s.bundled and entry.chart is None and part in disabled:
            yield Problem(
                (*place, disabled.index(part)),
                f"{name} is the {part} that k3s brings, and this leaves it out",
                "remove one of them",
                first=("addons", name),
            )
    for name, entry in chosen.items():
        if entry.k3s.bundled and not entry.k3s.chart and value(written, (name, "values")) is not None:
            yield Problem(
                ("addons", name, "values"),
                f"k3s brings {name} as plain manifests, which take no values of a chart",
                "remove the line",
                on_key=True,
            )
    disabled = disabled if isinstance(disabled, list) else []
    charts = [name for name, raw in written.items() if _has_chart(raw, chosen.get(name))]
    if charts and "helm-controller" in disabled:
        yield Problem(
            (*place, disabled.index("helm-controller")),
            f"k3s' helm-controller installs charts, such as that of {charts[0]}",
            "leave it on",
            first=("addons", charts[0]),
        )


def _has_chart(raw: Any, entry: Entry | None) -> bool:
    return entry.chart is not None if entry else isinstance(raw, dict) and "chart" in raw


def _memory(data: Any, chosen: Mapping[str, Entry]) -> Iterator[Problem]:
    """Yield a problem where all boards together have less than add-ons and Kubernetes ask for, whatever their sizes are."""
    asked = {name: entry.needs.memory for name, entry in chosen.items() if entry.needs.memory}
    boards = 0
    itself = 0
    for index in range(len(items(data, "nodes"))):
        size = _most(data, index)
        if not size:
            return
        boards += size
        role = typed(kube.role, value(data, source(data, index, "role")) or "agent")
        itself += SERVER if role == "server" else AGENT
    if not asked or sum(asked.values()) + itself <= boards:
        return
    most = max(asked, key=lambda name: asked[name])
    yield Problem(
        ("addons", most),
        f"the add-ons ask for {sum(asked.values())} MiB of memory and Kubernetes for {itself} MiB;"
        f" all boards together have {boards} MiB",
        f"{most} asks for {asked[most]} MiB; leave something out, or add boards",
        on_key=True,
    )


def _most(data: Any, index: int) -> int:
    """Return how much memory a node has at the most, in MiB; 0 where nobody can know."""
    written = typed(values.memory, value(data, source(data, index, "memory")))
    board = typed(kube.board, value(data, source(data, index, "board")) or GENERIC)
    sizes = BOARDS[board].memory if board else ()
    return written or (sizes[-1] if sizes else 0)
