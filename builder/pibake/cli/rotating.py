"""What follows from `pibake secrets rotate`: what pibake can do itself, and what a person has to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.cli.common import duration
from pibake.errors import about

if TYPE_CHECKING:
    from datetime import timedelta

    from pibake.identity import Secrets
    from pibake.plan import Plan


def planned_ttl(plan: Plan) -> timedelta:
    """Return how long a bootstrap token is to be good for; nothing is for ever."""
    return duration(plan.kubernetes.token_ttl if plan.kubernetes else "24h")


def apply(old: Secrets, new: Secrets, url: str, ttl: timedelta | None) -> None:
    """Put the new bootstrap token into the running cluster, and take the old one out."""
    from pibake import live

    with (
        about("the new token is kept here, but the cluster does not know it yet"),
        live.connected(new, url) as cluster,
    ):
        cluster.replace_token(old, ttl)


def apply_addons(plan: Plan, new: Secrets, url: str) -> None:
    """Put the add-ons' Secrets into the running cluster."""
    from pibake import live, nodes

    manifest = nodes.addon_secrets(plan, new)
    with (
        about("the new passwords are kept here, but the cluster does not know them yet"),
        live.connected(new, url) as cluster,
    ):
        cluster.apply_secrets(manifest.objects if manifest else ())


def consequences(new: Secrets, what: str, node: str, *, applied: bool) -> list[str]:
    """Return what a rotation leaves a person to do."""
    servers = ", ".join(name for name, own in new.nodes.items() if own.role == "server")
    everyone = ", ".join(new.nodes)
    rebuild = f"build the cards again of: {node or everyone}"
    match what:
        case "tokens" if new.distribution == "k3s":
            return [
                f"on a server ({servers}) run `k3s token rotate`, then put the new tokens into config.yaml",
                f"nodes that have joined stay; before a card is used again, {rebuild}",
            ]
        case "tokens":
            told = (
                []
                if applied
                else ["the running cluster takes it after: pibake secrets rotate tokens --apply"]
            )
            return [*told, f"nodes that have joined stay; before a card is used again, {rebuild}"]
        case "addons":
            told = (
                []
                if applied
                else ["the running cluster takes them after: pibake secrets rotate addons --apply"]
            )
            first = next(name for name, own in new.nodes.items() if own.role == "server")
            return [
                *told,
                "what reads its password only when it starts has to be started again: kubectl rollout restart",
                f"before {first} starts again, its card needs the new ones, too: pibake reseed (or build it again)",
            ]
        case "host-key":
            return [rebuild, "until then `pibake ssh` refuses them, for they show the old key"]
        case "node-password":
            return [
                rebuild,
                "and before that: pibake forget NODE --apply, or the cluster refuses the new password",
            ]
        case _:
            return [
                rebuild,
                "and every kubeconfig: a running cluster keeps its own, it does not take new ones",
            ]
