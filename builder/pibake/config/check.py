"""What pydantic found wrong with the shape of a cluster.yaml, in our words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from pibake.config import accounts, leaves, model, model_addons, model_head, model_kubernetes, radio, shapes
from pibake.config.problems import Loc, Problem, flow, listing, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNERS: dict[str, tuple[str, tuple[type[BaseModel], ...]]] = {
    "": ("a cluster.yaml", (model.ClusterFile,)),
    "network": ("`network`", (model.Network,)),
    "network.ipv6": ("`ipv6`", (model.Ipv6,)),
    "network.wifi": ("`wifi`", (shapes.Wifi,)),
    "netboot": ("`netboot`", (model.Netboot,)),
    "head": ("`head`", (model_head.Head,)),
    "head.upstream": ("`upstream`", (model_head.Upstream,)),
    "head.upstream.wifi": ("`wifi`", (shapes.Wifi,)),
    "kubernetes": ("`kubernetes`", (model_kubernetes.Kubernetes,)),
    "defaults": ("`defaults`", (model.Defaults,)),
    "users.*": ("a user", (model.User,)),
    "nodes.*": ("a node", (model.Node,)),
    "users.*.ssh_keys.*": ("an SSH key", (model.KeyFile, model.KeyAt)),
    "classes.*": ("a class", (model.NodeClass,)),
    "defaults.disks.*": ("a disk", (model.DataDisk,)),
    "classes.*.disks.*": ("a disk", (model.DataDisk,)),
    "nodes.*.disks.*": ("a disk", (model.DataDisk,)),
    "classes.*.base": ("a base", (model.FileBase, model.UrlBase)),
    "defaults.base": ("a base", (model.FileBase, model.UrlBase)),
    "nodes.*.base": ("a base", (model.FileBase, model.UrlBase)),
    "addons.*": ("an add-on of your own", (model_addons.OwnAddon,)),
    "addons.*.chart": ("a chart", (model_addons.RepoChart, model_addons.FileChart)),
}
"""Place of a mapping -> what to call it, and the models it may be."""

SYNONYMS = {
    "apikey": "", "authorized_keys": "ssh_keys", "connect": "", "dns_servers": "dns", "file_path": "file",
    "fqdn": "hostname", "host": "hostname", "image": "base", "ip": "address", "ip_address": "address",
    "keys": "ssh_keys", "mac_address": "mac", "model": "board", "name_servers": "dns", "nameserver": "dns",
    "nameservers": "dns", "os": "base", "path": "file", "router": "gateway", "sha256sum": "sha256",
    "cidr": "subnet", "ssh_authorized_keys": "ssh_keys", "ssh_key": "ssh_keys", "tz": "timezone",
    "passwd": "password_hash", "hashed_passwd": "password_hash", "username": "name", "hosts": "nodes",
    "cluster_cidr": "pod_cidr", "tls_san": "sans", "tls_sans": "sans", "type": "distribution",
    "ipv6_address": "address6", "key": "psk", "regulatory_domain": "country", "wlan": "wifi", "accept_ra": "ra",
    "vlan_id": "vlan", "ram": "memory", "search_domains": "search", "profile": "class",
    "mountpoint": "mount", "mount_point": "mount", "fstype": "filesystem", "fs": "filesystem", "volumes": "disks", "digest": "sha256", "checksum": "sha256",
    "interface": "port", "uplink": "upstream", "ports": "open", "pool": "dhcp", "port_forward": "forward",
}  # fmt: skip
"""What other tools call our keys, where it is too far from them for `difflib`."""

TOO_MANY_SERVERS = "a fourth name server: glibc's resolver uses the first three (MAXNS in resolv.h) and silently drops the rest"
LISTS = {
    "disable",
    "disks",
    "dns",
    "groups",
    "hooks",
    "images",
    "nodes",
    "open",
    "overlays",
    "packages",
    "sans",
    "search",
    "ssh_keys",
    "taints",
    "users",
}

MAPPINGS = {"addons", "classes", "forward", "labels"}
"""Mappings whose keys are the user's."""


def read(data: Any) -> tuple[model.ClusterFile | None, list[Problem]]:
    """Return the typed file, or every problem of its shape and its single values."""
    try:
        typed, problems = model.ClusterFile.model_validate(data), []
    except ValidationError as error:
        typed, problems = None, _all(data, error)
    told = {problem.loc for problem in problems}
    return typed, [*problems, *(_empty(loc) for loc in _empties(data, ()) if loc not in told)]


def own_addon(data: Any, name: str) -> tuple[model_addons.OwnAddon | None, list[Problem]]:
    """Return an add-on of the user's, or every problem of its shape and its single values."""
    loc = ("addons", name)
    try:
        return model_addons.OwnAddon.model_validate(value(data, loc)), []
    except ValidationError as error:
        return None, _all(data, error, loc)


def _all(data: Any, error: ValidationError, below: Loc = ()) -> list[Problem]:
    details = error.errors(include_url=False, include_input=False)
    return [
        problem
        for detail in details
        for problem in _problems(data, {**detail, "loc": (*below, *detail["loc"])})
    ]


def _empties(data: Any, loc: Loc) -> Iterator[Loc]:
    """Yield the place of every key and item that has no value; where one may be left out, pydantic is content.

    An add-on without a value is one with nothing but defaults.
    """
    if data is None:
        if loc[:1] != ("addons",) or len(loc) != 2:
            yield loc
    elif isinstance(data, dict | list):
        for key, item in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _empties(item, (*loc, key))


def value(data: Any, loc: Loc) -> Any:
    """Return the value at a place, or None where there is none."""
    for part in loc:
        if isinstance(data, dict) and isinstance(part, str):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def _problems(data: Any, error: dict[str, Any]) -> Iterator[Problem]:
    loc: Loc = tuple(part for part in error["loc"] if part not in leaves.TAGS)
    on_key = bool(loc) and loc[-1] == "[key]"
    loc = loc[:-1] if on_key else loc
    found = value(data, loc)
    match error["type"]:
        case "missing":
            yield _missing(data, loc)
        case "extra_forbidden":
            yield _unknown(loc)
        case leaves.OURS if on_key or isinstance(found, str):
            bad = error["ctx"]["error"]
            yield Problem(loc, bad.message, bad.hint, on_key=on_key)
        case "too_short":
            # pydantic counts the valid items, and tells of the others by themselves
            if not found:
                yield Problem(loc, f"`{loc[-1]}` is empty", "`pibake init` writes an example", on_key=True)
        case "too_long":
            yield Problem((*loc, 3), TOO_MANY_SERVERS, "keep the three that matter")
        case _ if found is not None:
            yield _shape(loc, found)


def _missing(data: Any, loc: Loc) -> Problem:
    key, owner = str(loc[-1]), loc[:-1]
    title, models = _owner(owner)
    if len(models) > 1 and key == "file" and title != "a chart":
        wanted = "`file` or `url`"
        hint = " or ".join(f"`{k}: {_example(models, k)}`" for k in ("file", "url"))
        return Problem(owner, f"{wanted} is missing here", f"add {hint}")
    name = value(data, (*owner, "hostname")) or value(data, (*owner, "name"))
    whose = f"{title.removeprefix('a ')} {name}" if isinstance(name, str) and title != "a base" else title
    if key == "sha256":
        return Problem(
            owner, "`sha256` is missing from a base", "add `sha256:` with what `sha256sum FILE` prints"
        )
    if key == "psk":
        return Problem(owner, "`psk` is missing from `wifi`", radio.PSK_HINT)
    example = _example(models, key)
    return Problem(
        owner,
        f"`{key}` is missing from {whose}" if owner else f"`{key}` is missing at the top level",
        f"add `{key}: {example}`" if example else "`pibake init` writes an example",
    )


def _empty(loc: Loc) -> Problem:
    if not loc:
        return Problem(loc, "the file holds no value", "`pibake init` writes one to start from")
    if isinstance(loc[-1], int):
        return Problem(loc, "this item of the list is empty", "give it a value, or remove the line")
    hint = 'give it one, or remove the line; an empty text is ""'
    return Problem(loc, f"`{loc[-1]}` has no value", hint, on_key=True)


def _unknown(loc: Loc) -> Problem:
    key = str(loc[-1])
    title, models = _owner(loc[:-1])
    keys = [name for kind in models for name in model.keys(kind)]
    if "ssh" not in key and re.search(r"pas+w|pwd|passphrase", key):
        return Problem(
            loc,
            f"`{key}` would put a password into a file and onto every card",
            radio.PSK_HINT if loc[-2:-1] == ("wifi",) else accounts.HASH_HINT,
            on_key=True,
        )
    if key in keys:
        other = key if key != "file" else "url" if "url" in keys else "repo"
        return Problem(loc, f"`file` and `{other}` stand side by side", "keep one of them", on_key=True)
    synonym = SYNONYMS.get(key.lower().replace("-", "_"), "")
    if synonym in keys and synonym:
        hint = f"did you mean `{synonym}`?"
    else:
        hint = (
            nearest(key, keys) or _elsewhere(key, title) or f"the keys here are {listing(sorted(set(keys)))}"
        )
    return Problem(loc, f"`{key}` is not a key of {title}", hint, on_key=True)


def _elsewhere(key: str, here: str) -> str:
    """Return a hint for a key that belongs to another mapping."""
    for place, (title, models) in OWNERS.items():
        if title != here and any(key in model.keys(kind) for kind in models):
            return f"`{key}` is a key of {title}" if place else f"`{key}` belongs at the top level"
    return ""


def _shape(loc: Loc, found: Any) -> Problem:
    """Return the problem of a mapping, a list or a single value where another of them belongs."""
    got = (
        "a mapping" if isinstance(found, dict) else "a list" if isinstance(found, list) else "a single value"
    )
    key = next((str(part) for part in reversed(loc) if isinstance(part, str)), "")
    inside = bool(loc) and isinstance(loc[-1], int)
    title, models = _owner(loc)
    if key in LISTS and not inside:
        example = _example(_owner(loc[:-1])[1], key)
        return Problem(
            loc,
            f"`{key}` is a list, not {got}",
            f"write `{key}: {example}`" if example else "start each item with `- `",
        )
    if len(models) > 1 and title != "a chart":
        return Problem(loc, f"{title} is text or a mapping of keys to values, not {got}")
    if models or key in MAPPINGS:
        title = title if models else f"`{key}`"
        return Problem(
            loc, f"{title} is a mapping of keys to values, not {got}", "write each as `key: value`"
        )
    subject = f"an item of `{key}`" if inside else f"`{key}`"
    return Problem(loc, f"{subject} is a single value, not {got}")


def _owner(loc: Loc) -> tuple[str, tuple[type[BaseModel], ...]]:
    # what a person names stands for any name
    named = loc[:1] in {("addons",), ("classes",)}
    parts = ("*" if isinstance(part, int) or (named and at == 1) else part for at, part in enumerate(loc))
    return OWNERS.get(".".join(parts), ("", ()))


def _example(models: tuple[type[BaseModel], ...], key: str) -> str:
    for kind in models:
        if (field := model.keys(kind).get(key)) and field.examples:
            return flow(field.examples[0])
    return ""
