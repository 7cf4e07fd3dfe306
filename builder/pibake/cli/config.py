"""`pibake init`, `pibake plan` and `pibake schema`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake import config as configuration
from pibake.errors import PibakeError
from pibake.plan import part_name
from pibake.plan.addons import bundled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.plan import Addon, Head, NodePlan, Plan


@click.command(
    epilog="""\b
Examples:
  pibake init
  pibake init --yes
  pibake init --yes -o lab/cluster.yaml"""
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; make an SSH key if ~/.ssh has none.")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path(configuration.FILE_NAME),
    show_default=True, metavar="FILE", help="Where to write it.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(*, yes: bool, out: Path, force: bool) -> None:
    """Write a commented cluster.yaml to start from.

    It suggests the network of this host's default route and your SSH key, and describes three nodes.
    """
    from pibake.cli import starting

    if out.exists() and not force:
        raise PibakeError(f"{out} is already there", "--force overwrites it; -o writes to another file")
    for line in starting.write(out, ask=not yes, force=force):
        click.echo(line)


@click.command(
    epilog="""\b
Examples:
  pibake plan
  pibake plan --hostname node3 --json
  pibake plan -c lab/cluster.yaml"""
)
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), metavar="FILE",
    help="The cluster.yaml  [default: the one in this or a parent folder]",
)  # fmt: skip
@click.option("--hostname", "hostnames", multiple=True, metavar="NAME",
              help="Show this node only; may be given again.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the whole plan as JSON.")
def plan(*, config: Path | None, hostnames: tuple[str, ...], as_json: bool) -> None:
    """Show what a build would do, and do nothing.

    Every mistake in the cluster.yaml is reported at once, with its line and column.
    """
    from pibake import catalog
    from pibake.plan import plan as decide
    from pibake.seed import templates

    decided = decide(configuration.load(locate(config), bases=catalog.names()))
    templates.check(decided.nodes)
    doubts = [addon.warning for addon in decided.addons if addon.warning]
    if decided.addons:
        from pibake.kube import addons, review

        doubts += review.check(decided, addons.render(decided))
    if hostnames:
        decided = replace(decided, nodes=tuple(dict.fromkeys(map(decided.node, hostnames))))
    if as_json:
        click.echo(json.dumps(decided.to_json(), indent=2, ensure_ascii=False))
    else:
        _show(decided)
        _show_downloads(decided)
    for doubt in doubts:
        click.echo(f"{click.style('warning:', fg='yellow')} {doubt}", err=True)


@click.command(
    epilog="""\b
Examples:
  pibake schema > cluster.schema.json
  (and in cluster.yaml, on the first line: # yaml-language-server: $schema=cluster.schema.json)"""
)
def schema() -> None:
    """Print the JSON Schema of cluster.yaml, for completion in editors."""
    click.echo(json.dumps(configuration.json_schema(), indent=2, ensure_ascii=False))


def locate(config: Path | None) -> Path:
    """Return the cluster.yaml that was named, or the one of this or a parent folder."""
    path = config or configuration.find(Path.cwd())
    if path is None:
        raise PibakeError(
            "there is no cluster.yaml in this folder or a parent folder",
            "`pibake init` writes one; -c names one elsewhere; `pibake build --address ...` needs none",
        )
    return path


def _show(decided: Plan) -> None:
    """Print the network, the users and a table of nodes."""
    link, users = decided.link, decided.nodes[0].users
    gateway = f"gateway {link.gateway}" if link.gateway else "no gateway"
    tagged = f", VLAN {link.vlan}" if link.vlan else ""
    click.echo(f"cluster {decided.cluster}, domain {decided.domain}")
    click.echo(
        f"network {link.address.network}, {gateway}, dns {', '.join(link.nameservers) or 'none'}{tagged}"
    )
    for node in decided.nodes:
        if node.head:
            click.echo(_head(node.hostname, node.head))
    if shared := decided.kubernetes:
        click.echo(f"kubernetes {shared.distribution} {shared.version}, API server {shared.url}")
    for addon in decided.addons:
        own = shared and bundled(addon, shared.distribution, shared.disable)
        click.echo(f"add-on {addon.name}{' that k3s brings' if own else _source(addon)}")
    for user in users:
        click.echo(f"user {user.name}: {_login(user.ssh_keys, locked=not user.password_hash)}")
    click.echo()
    rows = [_row(node) for node in decided.nodes]
    # rich would need half a second for a thousand rows, and cuts columns where a pipe has no width
    widths = {
        name: max(len(name), *(len(row[name]) for row in rows))
        for name in rows[0]
        if any(row[name] for row in rows)
    }
    head = "  ".join(name.ljust(width) for name, width in widths.items())
    click.secho(head.rstrip(), bold=True)
    click.echo(
        "\n".join(
            "  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in rows
        )
    )


def _show_downloads(decided: Plan) -> None:
    """Print what a build would still have to download for add-ons."""
    from pibake import delivery
    from pibake.cache import Cache
    from pibake.progress import Silent

    addons = delivery.of(decided, Cache(), Silent())
    missing = list(addons.missing()) if addons else []
    if missing:
        click.echo(f"\nto download for add-ons: {len(missing)}")
    for line in missing:
        click.echo(f"  {line}")


def _source(addon: Addon) -> str:
    """Return what an add-on is made from, in a few words."""
    chart, remote = addon.chart, addon.remote
    if chart:
        return f": {chart.file}" if chart.file else f" {chart.version}: {chart.repo.rstrip('/')}/{chart.name}"
    if addon.kustomization:
        return f": {addon.kustomization}"
    if addon.manifests:
        return f": {', '.join(map(str, addon.manifests))}"
    return f" {remote.version}: {remote.url}" if remote else ""


def _head(hostname: str, head: Head) -> str:
    """Return what the head does, on a line."""
    up = head.upstream
    where = f"by Wi-Fi {up.wifi.ssid}" if up.wifi else f"by {up.mac or up.name}"
    forwards = [f"{one.port}/{one.protocol} to {one.address}:{one.to}" for one in head.forward]
    return (
        f"head {hostname}, out {where} ({up.address or 'dhcp'}), guests {'-'.join(map(str, head.pool or ())) or 'none'}, "
        f"open {', '.join(map(str, head.open)) or 'nothing'}" + "".join(f", {text}" for text in forwards)
    )


def _row(node: NodePlan) -> dict[str, str]:
    """Return what the table says of a node; columns that are empty in every row are left out."""
    return {
        "node": node.hostname,
        "address": str(node.link.address),
        "address6": str(node.link.address6 or ""),
        "link": "wifi" if node.wifi else "",
        "class": node.node_class,
        "role": part_name(node.member.part) if node.member else node.role,
        "board": node.board,
        "serial": node.serial,
        "mac": node.link.mac,
        "base": str(node.base),
        "overlays": ", ".join(overlay.name for overlay in node.overlays),
        "packages": ", ".join([*node.packages, *(deb.name for deb in node.debs)]),
        "hooks": ", ".join(hook.name for hook in node.hooks),
        "disks": ", ".join(f"{disk.device} on {disk.mount} ({disk.filesystem})" for disk in node.disks),
        "labels": ", ".join(f"{key}={text}" for key, text in node.labels.items()),
        "taints": ", ".join(node.member.taints) if node.member else "",
    }


def _login(keys: Sequence[object], *, locked: bool) -> str:
    count = f"{len(keys)} SSH key{'' if len(keys) == 1 else 's'}"
    return f"{count}, {'no password' if locked else 'a password'}"
