"""Making identities: what is missing is made, what is there is kept, and only `rotate` replaces anything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.identity import bootkey, hostkeys, pki, tokens
from pibake.identity.model import AUTHORITIES, DISTRIBUTIONS, K3S, KUBEADM, TOKENS, NodeSecrets, Pair, Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from pibake.identity.model import Wanted
    from pibake.secret import Secret


def issue(wanted: Wanted, have: Secrets | None, now: datetime) -> Secrets:
    """Return `have` with everything that `wanted` needs and it lacks.

    Raises:
        PibakeError: what is there is another cluster's, another distribution's, or a node's for another role.
    """
    if wanted.distribution not in ("", *DISTRIBUTIONS):
        raise PibakeError(f"{wanted.distribution} is no distribution pibake has identities for")
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    have = have or Secrets(wanted.cluster, wanted.distribution, stamp)
    _refuse_changes(wanted, have)
    distribution = have.distribution or wanted.distribution
    authorities = {**_authorities(distribution, now, have.authorities), **have.authorities}
    new = replace(have, distribution=distribution, authorities=authorities)
    pin = new.ca_pin if distribution == K3S else ""
    made = {kind: tokens.new(kind, pin) for kind in TOKENS[distribution] if kind not in have.tokens}
    account = have.service_account or (pki.rsa_key() if distribution else None)
    nodes = {name: have.nodes.get(name) or _node(name, role) for name, role in wanted.nodes.items()}
    if not distribution:  # without Kubernetes, a role is a word
        nodes = {name: replace(node, role=wanted.nodes[name]) for name, node in nodes.items()}
    return replace(
        new,
        tokens={**made, **have.tokens},
        service_account=account,
        nodes={**have.nodes, **nodes},
        boot_key=have.boot_key or (bootkey.new() if wanted.boot_key else None),
        addons=_passwords(wanted, have),
    )


def rotate(secrets: Secrets, what: str, now: datetime, node: str = "", addon: str = "") -> Secrets:
    """Return `secrets` with one kind of them made anew, for one node or add-on or, where those have it, for all of them.

    Raises:
        PibakeError: there is no such kind, or nothing of that kind.
    """
    if what == ADDONS:
        return _new_addon_passwords(secrets, addon)
    if what not in ROTATIONS:
        raise PibakeError(f"{what} cannot be rotated", f"what can be is {', '.join((*ROTATIONS, ADDONS))}")
    per_node = what in PER_NODE
    if node and not per_node:
        raise PibakeError(f"{what} is the whole cluster's, not one node's", f"pibake secrets rotate {what}")
    if not (per_node or secrets.distribution):
        raise PibakeError(f"the cluster {secrets.cluster} has no {what}", "it was issued without Kubernetes")
    if node:
        secrets.node(node)
    return ROTATIONS[what](secrets, now, [node] if node else list(secrets.nodes))


def client_certificate(
    secrets: Secrets, user: str, groups: Sequence[str], ttl: timedelta, now: datetime
) -> Pair:
    """Return a certificate that an API server knows `user`, of `groups`, by."""
    for name in (user, *groups):
        # RFC 5280 ends both at 64 characters
        if not 0 < len(name) <= 64 or not name.isprintable():
            raise PibakeError(f"{name!r} is no name for a user or a group", "1 to 64 printable characters")
    if ttl <= timedelta():
        raise PibakeError("a certificate that is over at once is of no use", "give a longer time, like 8h")
    ca, key = secrets.client_ca, pki.elliptic_key()
    return Pair(pki.client(ca, key=key, user=user, groups=groups, now=now, ttl=ttl), key)


def admin_certificate(secrets: Secrets, ttl: timedelta, now: datetime) -> Pair:
    """Return the certificate of the distribution's own administrator."""
    return client_certificate(secrets, admin(secrets), ["system:masters"], ttl, now)


def admin(secrets: Secrets) -> str:
    """Return what the distribution calls its administrator."""
    return "kubernetes-admin" if secrets.distribution == KUBEADM else "system:admin"


def _refuse_changes(wanted: Wanted, have: Secrets) -> None:
    if wanted.cluster != have.cluster:
        raise PibakeError(
            f"these secrets were issued for the cluster {have.cluster}, and it is called {wanted.cluster} now",
            f"name it {have.cluster} again, or move the secrets folder away to issue new ones: then every card"
            " has to be built anew",
        )
    if wanted.distribution and have.distribution and wanted.distribution != have.distribution:
        raise PibakeError(
            f"these secrets were issued for {have.distribution}, and cluster.yaml asks for {wanted.distribution}",
            f"keep {have.distribution}, or move the secrets folder away to issue new ones: then every card has"
            " to be built anew",
        )
    if not have.distribution:
        return
    for name, role in wanted.nodes.items():
        if name in have.nodes and have.nodes[name].role != role:
            raise PibakeError(
                f"{name} was issued as {_a(have.nodes[name].role)}, and cluster.yaml makes it {_a(role)} now",
                f"pibake forget {name} takes it out of the cluster; then build its card again",
            )


def _a(role: str) -> str:
    return f"an {role}" if role[:1] in "aeiou" else f"a {role}"


def _authorities(distribution: str, now: datetime, have: Mapping[str, Pair]) -> dict[str, Pair]:
    made = {}
    for name, called in AUTHORITIES[distribution].items():
        if name in have:
            continue
        if distribution == K3S:
            key = pki.elliptic_key()
            made[name] = Pair(pki.authority(f"k3s-{called}@{int(now.timestamp())}", key, now), key)
        else:
            key = pki.rsa_key()
            made[name] = Pair(pki.authority(called, key, now, alias=called), key)
    return made


def _node(name: str, role: str) -> NodeSecrets:
    return NodeSecrets(role, hostkeys.new(name), tokens.new("node-password"))


def _passwords(wanted: Wanted, have: Secrets) -> dict[str, Mapping[str, Secret]]:
    """Return the passwords of add-ons, those that are missing made up; one that is left out may come back."""
    found = dict(have.addons)
    for name, options in wanted.addons.items():
        before = found.get(name, {})
        found[name] = {**{option: tokens.password(length) for option, length in options.items()}, **before}
    return found


def _new_addon_passwords(secrets: Secrets, addon: str) -> Secrets:
    if addon not in secrets.addons if addon else not secrets.addons:
        which = f"the add-on {addon}" if addon else f"any add-on of the cluster {secrets.cluster}"
        raise PibakeError(f"no password was made up for {which}", "pibake secrets list")
    made: dict[str, Mapping[str, Secret]] = {
        name: {option: tokens.password(len(old.reveal())) for option, old in secrets.addons[name].items()}
        for name in ([addon] if addon else secrets.addons)
    }
    return replace(secrets, addons={**secrets.addons, **made})


def _new_tokens(secrets: Secrets, _: datetime, __: Sequence[str]) -> Secrets:
    pin = secrets.ca_pin
    return replace(secrets, tokens={kind: tokens.new(kind, pin) for kind in TOKENS[secrets.distribution]})


def _new_authorities(secrets: Secrets, now: datetime, _: Sequence[str]) -> Secrets:
    """Return new CAs; the passwords in k3s' tokens stay, tied to the new one."""
    new = replace(secrets, authorities=_authorities(secrets.distribution, now, {}))
    if secrets.distribution != K3S:
        return new
    pinned: dict[str, Secret] = {
        kind: tokens.repinned(kind, token, new.ca_pin) for kind, token in secrets.tokens.items()
    }
    return replace(new, tokens=pinned)


def _new_account(secrets: Secrets, _: datetime, __: Sequence[str]) -> Secrets:
    return replace(secrets, service_account=pki.rsa_key())


def _new_host_keys(secrets: Secrets, _: datetime, names: Sequence[str]) -> Secrets:
    made = {name: replace(secrets.nodes[name], host_key=hostkeys.new(name)) for name in names}
    return replace(secrets, nodes={**secrets.nodes, **made})


def _new_passwords(secrets: Secrets, _: datetime, names: Sequence[str]) -> Secrets:
    made = {name: replace(secrets.nodes[name], node_password=tokens.new("node-password")) for name in names}
    return replace(secrets, nodes={**secrets.nodes, **made})


ADDONS = "addons"
"""The kind of the passwords that were made up for add-ons."""
PER_NODE = ("host-key", "node-password")
ROTATIONS: Mapping[str, Callable[[Secrets, datetime, Sequence[str]], Secrets]] = {
    "tokens": _new_tokens,
    "host-key": _new_host_keys,
    "node-password": _new_passwords,
    "authorities": _new_authorities,
    "service-account": _new_account,
}
"""What can be rotated, and how."""
