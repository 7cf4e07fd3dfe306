"""Catalogue entries in words: for `pibake addons` and for the page in the docs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.offers.model import Entry, Option

NOUNS = {
    "ip": "address",
    "cidr": "subnet",
    "ip-range": "range of addresses",
    "hostname": "name of a host",
    "email": "e-mail address",
    "url": "URL",
    "quantity": "amount",
    "host-port": "host:port",
    "duration": "length of time",
    "file": "file",
    "secret-file": "file with a secret",
}
"""Format -> what to call a value of it."""


@dataclass(frozen=True)
class Row:
    """An option in words: its name, what kind of value it is, what it is unless set, and what it is for."""

    name: str
    kind: str
    default: str
    what: str


def version(entry: Entry) -> str:
    """Return which version is installed; "" where the entry's own objects say it."""
    source = entry.chart or entry.manifest
    return source.version if source else ""


def rows(entry: Entry) -> list[Row]:
    """Return an entry's options, with those of mappings below them as `outer.inner`."""
    found = list(_rows(entry.options, entry.required, entry.generated))
    if entry.chart:
        found.append(
            Row("values", "file", "", "A YAML file with values of the chart, which are merged last.")
        )
    return found


def facts(entry: Entry) -> list[tuple[str, str]]:
    """Return what else there is to say of an entry, as labels and texts."""
    needs, chart = entry.needs, entry.chart
    places = [text for text in (entry.namespace and f"namespace {entry.namespace}",) if text]
    wanted = [
        *(f"the add-on {name}" for name in needs.addons),
        *(f"the Debian package {name} on every member" for name in needs.packages),
        *([f"{needs.memory} MiB of memory"] if needs.memory else []),
        *(["disks of the boards' own (no NFS root)"] if needs.root == "local" else []),
        *([f"Kubernetes {needs.kubernetes} or newer"] if needs.kubernetes else []),
    ]
    changed = [
        *(f"leaves out {part}" for part in entry.k3s.disable),
        *(f"sets {key}" for key in entry.k3s.config),
    ]
    brought = ["brings it itself"] if entry.k3s.bundled else []
    found = {
        "status": f"{entry.status}{f' Take {entry.instead} instead.' if entry.instead else ''}",
        "homepage": entry.homepage,
        "from": f"{chart.repo.rstrip('/')}/{chart.name} {chart.version}"
        if chart
        else entry.manifest.url
        if entry.manifest
        else "",
        "lives in": ", ".join(places),
        "needs": "; ".join(wanted),
        "cannot stand beside": ", ".join(entry.conflicts),
        "k3s": "; ".join([*brought, *changed]),
    }
    return [(label, text) for label, text in found.items() if text]


def example(name: str, entry: Entry) -> str:
    """Return an add-on as it could stand in cluster.yaml: what it needs, and each option that must be set."""
    lines = ["addons:", *(f"  {other}:" for other in entry.needs.addons)]
    wanted = [key for key in entry.required if key not in entry.generated]
    shown = [
        key for key, option in entry.options.items() if key in wanted or (not wanted and option.examples)
    ]
    values = {key: entry.options[key].examples[0] for key in shown if entry.options[key].examples}
    lines.append(f"  {name}:")
    lines += [f"    {key}: {_flow(item)}" for key, item in values.items()]
    return "\n".join(lines)


def _flow(item: Any) -> str:
    """Return a value as YAML on one line; every JSON value is one, and text mostly needs no quotes."""
    if isinstance(item, str) and item and not set(item) & set("{}[],:#&*!|>'\"%@`"):
        return item
    if isinstance(item, list | tuple):
        return f"[{', '.join(map(_flow, item))}]"
    if isinstance(item, dict):
        return f"{{{', '.join(f'{key}: {_flow(inner)}' for key, inner in item.items())}}}"
    return json.dumps(item, ensure_ascii=False)


def _rows(
    options: dict[str, Option], required: tuple[str, ...], generated: dict[str, int], above: str = ""
) -> Iterator[Row]:
    for key, option in options.items():
        usual = "" if option.default is None else _flow(option.default)
        if key in generated and not above:
            usual = f"{generated[key]} characters that pibake makes up"
        elif key in required:
            usual = "required"
        yield Row(f"{above}{key}", kind(option), usual, option.description)
        inner = option.properties or (option.items.properties if option.items else None) or {}
        of = option.required or (option.items.required if option.items else ())
        yield from _rows(inner, of, {}, f"{above}{key}{'[]' if option.items else ''}.")


def kind(option: Option) -> str:
    """Return what kind of value an option is, in words."""
    if option.enum:
        return " or ".join(map(_flow, option.enum))
    if option.type == "array":
        return f"list: {kind(option.items)}" if option.items else "list"
    if option.format:
        return NOUNS[option.format]
    return {"string": "text", "boolean": "true or false", "integer": "number", "object": "mapping"}.get(
        option.type, option.type
    )
