"""`pibake forget`: take a node out of the cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from pibake.cli.build import OUT
from pibake.cli.common import age_option, config_option, opened, server_option
from pibake.errors import CommandFailed, PibakeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pibake.cli.common import Opened
    from pibake.identity import Secrets


@click.command(
    epilog="""\b
Examples:
  pibake forget node3
  pibake forget node3 --apply
  pibake forget node3 --apply --no-drain"""
)
@config_option
@age_option
@server_option
@click.option("--apply", is_flag=True, help="Also remove it from the running cluster, with kubectl.")
@click.option(
    "--no-drain", is_flag=True, help="With --apply: the board is dead, nothing can be moved off it."
)
@click.option("-o", "--out", type=click.Path(file_okay=False), default=str(OUT), show_default=True,
              metavar="FOLDER", help="Where its image is.")  # fmt: skip
@click.argument("node")
def forget(
    *,
    config: Path | None,
    age_identity: Path | None,
    server: str | None,
    apply: bool,
    no_drain: bool,
    out: str,
    node: str,
) -> None:
    """Take NODE out: its secrets, its image and manifest, and with --apply its place in the running cluster.

    Its entry in cluster.yaml is yours to remove. If it stays, the next build issues new secrets, and a card made
    with them joins like a new board. Forgetting a node that is gone already is fine.
    """
    from pathlib import Path

    place = opened(config, age_identity)
    secrets = place.vault.load(sound=False)
    hostname = _hostname(place, node)
    distribution = secrets.distribution if secrets else ""
    # The cluster first: should it not answer, everything needed to try again is still here.
    if apply:
        _apply(place, secrets, server, _member(place, hostname), drain=not no_drain)
    role = secrets.nodes[hostname].role if secrets and hostname in secrets.nodes else ""
    removed = [f"its secrets in {place.vault.folder}"] if place.vault.forget(hostname) else []
    for path in _artefacts(Path(out), hostname):
        path.unlink(missing_ok=True)
        removed.append(str(path))
    for what in removed:
        click.echo(f"removed {what}")
    if not removed:
        click.echo(f"nothing is left of {hostname} here")
    _remaining(place, hostname, distribution, role, applied=apply)


def _apply(place: Opened, secrets: Secrets | None, server: str | None, member: str, *, drain: bool) -> None:
    from pibake import live

    if secrets is None:
        raise PibakeError(f"{place.vault.folder} holds no secrets to reach the cluster with")
    try:
        with live.connected(secrets, place.url(server)) as cluster:
            for line in cluster.remove(member, drain=drain):
                click.echo(line)
    except CommandFailed as error:
        error.hint = "nothing was removed here; try again, with --no-drain if the board is dead"
        raise


def _remaining(place: Opened, hostname: str, distribution: str, role: str, *, applied: bool) -> None:
    """Say what only a person can do."""
    from pibake import live

    if distribution and not applied:
        click.echo("\nto take it out of the running cluster (or give --apply):")
        for line in live.commands(_member(place, hostname), distribution):
            click.echo(f"  {line}")
    if role == "server" and distribution:
        click.echo(f"\n{hostname} was a server: its card holds the cluster's CA keys until it is erased")
        if distribution == "kubeadm":
            click.echo("its etcd member has to be removed on another server: etcdctl member remove ID")
    if any(node.hostname == hostname for node in place.plan.nodes):
        click.echo(
            f"\nits entry in {place.plan.sources[0]} is yours to remove, unless you build its card again"
        )


def _member(place: Opened, hostname: str) -> str:
    """Return what a node is called in the cluster; it may be gone from cluster.yaml already."""
    kubernetes, domain = place.plan.kubernetes, place.plan.domain
    full = kubernetes is not None and kubernetes.node_names == "full"
    return f"{hostname}.{domain}" if full else hostname


def _hostname(place: Opened, name: str) -> str:
    """Return a node's short name; it may be gone from cluster.yaml already."""
    for node in place.plan.nodes:
        if name.lower() in {node.hostname, node.fqdn}:
            return node.hostname
    name = name.lower().removesuffix(f".{place.plan.domain}")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        place.plan.node(name)  # raises, with the nodes there are
    return name


def _artefacts(out: Path, hostname: str) -> Iterator[Path]:
    for kind in ("img*", "bmap", "qcow2*", "delta*", "manifest.json"):
        yield from sorted(out.glob(f"{hostname}.{kind}"))
