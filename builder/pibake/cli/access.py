"""`pibake kubeconfig`, `pibake known-hosts` and `pibake ssh`: ways in, known before the first board has power."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from pibake.cli.common import Duration, age_option, config_option, opened, server_option, write_private
from pibake.errors import PibakeError

if TYPE_CHECKING:
    from pibake.cli.common import Opened
    from pibake.identity import Secrets

PROXY = "127.0.0.1:1080"
"""Where ssh is to offer its SOCKS proxy: the port of SOCKS (IANA)."""
ADMIN_TTL = timedelta(days=365)
USER_TTL = timedelta(days=30)


@click.command(
    epilog="""\b
Examples:
  pibake kubeconfig > kubeconfig && kubectl --kubeconfig kubeconfig get nodes
  pibake kubeconfig --merge
  pibake kubeconfig --via node1 -o kubeconfig    from outside: through ssh to node1
  pibake kubeconfig --user alice --group developers --ttl 8h -o alice.kubeconfig"""
)
@config_option
@age_option
@server_option
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where to write it  [default: standard output]")  # fmt: skip
@click.option("--merge", is_flag=True, help="Put it into $KUBECONFIG's first file, ~/.kube/config, or -o's.")
@click.option("--user", metavar="NAME", help="Who it is for  [default: the cluster's administrator]")
@click.option("--group", "groups", multiple=True, metavar="NAME",
              help="With --user: a group they are in; may be given again.")  # fmt: skip
@click.option("--via", metavar="HOST",
              help="A node, or USER@HOST, that the API server is reached through, by ssh's SOCKS proxy.")  # fmt: skip
@click.option("--ttl", type=Duration(), metavar="TIME",
              help="How long it is good for, like 8h or 30d  [default: 1y; with --user 30d]")  # fmt: skip
def kubeconfig(
    *,
    config: Path | None,
    age_identity: Path | None,
    server: str | None,
    out: Path | None,
    merge: bool,
    user: str | None,
    groups: tuple[str, ...],
    via: str | None,
    ttl: timedelta | None,
) -> None:
    """Write a kubeconfig, with a certificate made for it.

    It can be made before the cluster exists. Nobody can take a certificate back: give other people theirs with
    --user and a short --ttl, and what they may do with role bindings.
    """
    from pibake import identity

    if groups and not user:
        raise click.UsageError("--group goes with --user")
    place = opened(config, age_identity)
    proxy = f"socks5://{PROXY}" if via else ""
    jump = _jump(place, via) if via else ""
    secrets, url, now = place.vault.existing(), place.url(server), datetime.now(UTC)
    if user:
        pair = identity.client_certificate(secrets, user, groups, USER_TTL if ttl is None else ttl, now)
    else:
        pair = identity.admin_certificate(secrets, ADMIN_TTL if ttl is None else ttl, now)
    text = identity.kubeconfig(secrets, url, pair, user or identity.admin(secrets), proxy)
    if merge:
        target = out or _usual()
        there = target.read_text("utf-8", "replace") if target.exists() else ""
        write_private(target, identity.merge(there, text, str(target)))
        click.echo(f"{target}: kubectl --context {secrets.cluster} get nodes")
    elif out:
        if out.exists() and identity.merge(out.read_text("utf-8", "replace"), text, str(out)) != text:
            raise PibakeError(f"{out} holds other clusters or users too", "--merge keeps them")
        write_private(out, text)
        click.echo(f"{out}: kubectl --kubeconfig {out} get nodes")
    else:
        click.echo(text, nl=False)
    if via:
        click.echo(f"while this runs, kubectl reaches the cluster:  ssh -N -D {PROXY} {jump}", err=True)


def _jump(place: Opened, via: str) -> str:
    """Return who ssh logs in to: a node as its first user, the head at its address outside, or what was given."""
    if not re.fullmatch(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.:-]*", via):
        raise PibakeError(
            f"{via!r} is no host that ssh can log in to", "write it like node1 or me@gate.example.com"
        )
    for node in place.plan.nodes:
        if via.lower() in {node.hostname, node.fqdn}:
            user = node.users[0].name
            if node.head is None:
                return f"{user}@{node.link.address.ip}"
            if node.head.upstream.address is None:
                raise PibakeError(
                    f"{node.hostname} is reached from outside at an address that DHCP gives it, which is not known here",
                    f"name what you reach it by: --via {user}@ADDRESS",
                )
            return f"{user}@{node.head.upstream.address.ip}"
    return via


@click.command("known-hosts", epilog="Example: pibake known-hosts >> ~/.ssh/known_hosts")
@config_option
@age_option
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where to write them  [default: standard output]")  # fmt: skip
def known_hosts(*, config: Path | None, age_identity: Path | None, out: Path | None) -> None:
    """Write the known_hosts lines of all nodes, so that ssh asks nothing, even the first time."""
    place = opened(config, age_identity)
    text = _known_hosts(place, place.vault.existing())
    if out:
        write_private(out, text)
        click.echo(str(out))
    else:
        click.echo(text, nl=False)


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  pibake ssh node3
  pibake ssh node3 sudo journalctl -u pibake-join
  pibake ssh --user root --identity ~/.ssh/lab node3""",
)
@config_option
@age_option
@click.option("--user", metavar="NAME", help="Who to log in as  [default: the first user of cluster.yaml]")
@click.option("-i", "--identity", type=click.Path(path_type=Path), metavar="FILE",
              help="SSH private key to log in with  [default: ssh's own]")  # fmt: skip
@click.option("-p", "--port", type=click.IntRange(1, 65535), help="Port  [default: 22]")
@click.option("--address", metavar="ADDRESS", help="Where it is  [default: its address in cluster.yaml]")
@click.argument("node")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
def ssh(
    *,
    config: Path | None,
    age_identity: Path | None,
    user: str | None,
    identity: Path | None,
    port: int | None,
    address: str | None,
    node: str,
    command: tuple[str, ...],
) -> NoReturn:
    """Log in to NODE, or run COMMAND on it.

    The host key is the one that was issued with the card: a host with any other key is refused, and nothing is
    asked or learned on first contact.
    """
    from pibake.run import find

    place = opened(config, age_identity)
    target = place.plan.node(node)
    secrets = place.vault.existing()
    secrets.node(target.hostname)
    known = place.vault.keep_public("known_hosts", _known_hosts(place, secrets))
    login = user or next((account.name for account in target.users), "")
    if not login or login.startswith("-"):
        raise PibakeError(f"{target.hostname} has no user {login}".rstrip(), "name one with --user")
    options = [
        *([f"-i{identity}", "-oIdentitiesOnly=yes"] if identity else []),
        *([f"-p{port}"] if port else []),
    ]
    where = address or str(target.link.address.ip)
    argv = ["ssh", *strict(target.hostname, known), *options, "-l", login, "--", where]
    sys.stdout.flush()
    os.execv(find("ssh", "log in to a node"), [*argv, *command])  # noqa: S606


def strict(hostname: str, known: Path) -> list[str]:
    """Return the ssh options that take one host key for a node, wherever it answers, and no other (ssh_config(5))."""
    path = str(known.resolve()).replace("%", "%%")
    return [
        "-oStrictHostKeyChecking=yes",
        f'-oUserKnownHostsFile="{path}"',
        "-oGlobalKnownHostsFile=/dev/null",
        f"-oHostKeyAlias={hostname}",
        "-oHostKeyAlgorithms=ssh-ed25519",
        "-oCheckHostIP=no",
        "-oUpdateHostKeys=no",
        "-oVerifyHostKeyDNS=no",
    ]


def _known_hosts(place: Opened, secrets: Secrets) -> str:
    """Return the lines of every node that has a host key; one that was just forgotten has none."""
    from pibake import identity

    names = {
        node.hostname: (
            node.hostname,
            node.fqdn,
            *(str(interface.ip) for interface in (node.link.address, node.link.address6) if interface),
        )
        for node in place.plan.nodes
        if node.hostname in secrets.nodes
    }
    if len(names) < len(place.plan.nodes):
        missing = [node.hostname for node in place.plan.nodes if node.hostname not in names]
        click.echo(f"no host key was issued for {', '.join(missing)}: pibake secrets issue", err=True)
    return identity.known_hosts(secrets, names)


def _usual() -> Path:
    """Return the kubeconfig that kubectl writes to (kubectl documentation, "Organizing Cluster Access")."""
    named = [name for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    return Path(named[0]) if named else Path.home() / ".kube/config"
