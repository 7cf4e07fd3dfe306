"""What tests of add-ons share: a cluster with any add-on of the catalogue, with few options or with all of them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pibake import config, offers
from pibake.errors import ConfigError
from pibake.kube import addons
from pibake.plan import Plan, plan
from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pibake.kube.addons import Manifest
    from pibake.offers import Entry, Option

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
DISTRIBUTIONS = ("k3s", "kubeadm")
OPTIONS = ("few", "all")
RELEASE = "v1.34.1"
WORD = "correct-horse-"
"""What every secret of these clusters begins with, so that it is found wherever it should not be."""
OF_FORMAT: dict[str, Any] = {
    "ip": "192.168.10.240",
    "cidr": "192.168.10.240/28",
    "ip-range": "192.168.10.240-192.168.10.250",
    "hostname": "shop.example.com",
    "email": "me@example.com",
    "url": "https://shop.example.com/",
    "quantity": "10Gi",
    "host-port": "192.168.10.5:6789",
    "duration": "1m",
}


@dataclass(frozen=True)
class Made:
    """What became of a cluster with add-ons."""

    plan: Plan
    manifests: tuple[Manifest, ...]
    secrets: Manifest | None

    @property
    def objects(self) -> list[tuple[str, dict[str, Any]]]:
        """All objects, public and secret, each with the name of its manifest."""
        every = (*self.manifests, *((self.secrets,) if self.secrets else ()))
        return [(manifest.name, thing) for manifest in every for thing in manifest.objects]


def written(entry: Entry, folder: Path, *, every: bool) -> dict[str, Any]:
    """Return options for an entry, those that it requires or all, and write the files they name."""
    needed = {*entry.required, *_depended(entry)}
    chosen = entry.options if every else {n: o for n, o in entry.options.items() if n in needed}
    return {name: _value(option, f"{name}.txt", folder) for name, option in chosen.items()}


def _depended(entry: Entry) -> set[str]:
    """Return what options need that are not required as such, whatever they are set to."""
    return {name for rule in entry.depends for name in rule.need}


def _value(option: Option, file: str, folder: Path) -> Any:
    if option.format in ("file", "secret-file"):
        path = folder / file
        path.write_text(f"{WORD}{file}\n" if option.format == "secret-file" else _text(option))
        path.chmod(0o600)
        return file
    if option.type == "boolean":
        return not option.default
    for said in (option.examples, option.enum or (), () if option.default is None else (option.default,)):
        if said:
            return said[0]
    match option.type:
        case "array":
            return [_value(option.items, file, folder)] if option.items else []
        case "object":
            inner = option.properties or {}
            return {name: _value(one, f"{name}-{file}", folder) for name, one in inner.items()}
    number = option.type in ("integer", "number")
    return (option.minimum or 1) if number else OF_FORMAT[option.format] if option.format else "shop"


def _text(option: Option) -> str:
    return "".join(f"{example}\n" for example in option.examples) or "# nothing\n"


def with_needs(name: str) -> list[str]:
    """Return an add-on's name, and before it those that it needs."""
    found: list[str] = []
    for other in offers.entry(name).needs.addons:
        found += [one for one in with_needs(other) if one not in found]
    return [*found, name]


def text(chosen: Mapping[str, Any], distribution: str, release: str, extra: str = "") -> str:
    """Return a cluster.yaml of three servers and three agents with add-ons."""
    version = f"{release}+k3s1" if distribution == "k3s" else release
    roles = ["server"] * 3 + ["agent"] * 3
    nodes = "".join(
        f"  - {{hostname: n{number}, address: 192.168.10.1{number}, role: {role}}}\n"
        for number, role in enumerate(roles)
    )
    cni = ", cni: none" if distribution == "kubeadm" else ""
    return (
        f"cluster: lab\ndomain: lab.example\n"
        f"kubernetes: {{distribution: {distribution}, version: {version}, vip: 192.168.10.9{cni}{extra}}}\n"
        "network: {subnet: 192.168.10.0/24, gateway: 192.168.10.1}\n"
        f"users: [{{name: ops, ssh_keys: ['{KEY}']}}]\n"
        f"nodes:\n{nodes}addons: {json.dumps(chosen)}\n"
    )


def decided(folder: Path, chosen: Mapping[str, Any], distribution: str, release: str = RELEASE) -> Plan:
    """Return the plan of a cluster with add-ons; `folder` holds the files that they name."""
    path = folder / "cluster.yaml"
    path.write_text(text(chosen, distribution, release))
    return plan(config.load(path, bases=("debian-13",)))


def options(names: list[str], folder: Path, last: str = "few") -> dict[str, Any]:
    """Return what stands in `addons:` for some add-ons, the last of them with few options or all."""
    return {
        name: written(offers.entry(name), folder, every=last == "all" and name == names[-1]) for name in names
    }


def together(folder: Path, distribution: str, last: str = "few") -> Plan:
    """Return the plan of a cluster with as many add-ons as can stand together; none that others publish as a file."""
    chosen: dict[str, Any] = {}
    for name in (name for name, entry in offers.catalogue().items() if not entry.manifest):
        tried = {**options(with_needs(name), folder, last), **chosen}
        with contextlib.suppress(ConfigError):
            decided(folder, tried, distribution)
            chosen = tried
    assert len(chosen) > len(offers.names()) / 2
    return decided(folder, chosen, distribution)


def made(what: Plan, *, release: str = "") -> Made:
    """Return what is rendered for a plan, with a word for every secret; for another release than was planned, if said."""
    if release and what.kubernetes:
        what = replace(what, kubernetes=replace(what.kubernetes, version=release))
    return Made(what, addons.render(what), addons.secret_manifest(what, words(what)))


def words(what: Plan) -> dict[str, dict[str, Secret]]:
    """Return a secret for each option that wants one: what is in the file, or something made up."""
    return {
        addon.name: {
            **{option: Secret(path.read_text().strip()) for option, path in addon.secrets.items()},
            **{option: Secret((WORD * length)[:length]) for option, length in addon.generated.items()},
        }
        for addon in what.addons
    }


def values(thing: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Return every value in an object that is no list or mapping, with its path."""
    if isinstance(thing, dict):
        for key, value in thing.items():
            yield from values(value, (*path, key))
    elif isinstance(thing, list):
        for number, value in enumerate(thing):
            yield from values(value, (*path, number))
    else:
        yield path, thing
