"""Whether a node's base, its board and its part in the cluster go together.

Pure, and decided before anything is made: what the catalogue says of the base, what its image says of the system in it
and which files its boot partition holds are handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.fit.hardware import hardware
from pibake.fit.head import head
from pibake.fit.kubernetes import member
from pibake.fit.pages import config_txt, kernel_choice
from pibake.fit.values import Finding, Level, noted, warned

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterator

    from pibake.plan import NodePlan
    from pibake.system import System

__all__ = ["Finding", "Level", "config_txt", "fit", "kernel_choice"]


def fit(
    node: NodePlan,
    system: System,
    boards_of_base: tuple[str, ...] = (),
    *,
    today: dt.date,
    end_of_life: dt.date | None = None,
    boot_files: Collection[str] = (),
) -> list[Finding]:
    """Return everything that node, board and base do not agree on; refusals first, then warnings, then notes.

    Arguments:
        node: what is to be made.
        system: what the base's image says of itself.
        boards_of_base: the boards that the catalogue has the base for; empty for an image of one's own.
        today: the day, in UTC.
        end_of_life: the last day with security updates, if the catalogue knows.
        boot_files: paths of the files on the base's boot partition; empty where they have not been listed.
    """
    found = [
        *hardware(node, system, boards_of_base, boot_files),
        *head(node, system),
        *member(node, system),
        *_names(node),
    ]
    if end_of_life is not None and end_of_life < today:
        found.append(
            warned(
                f"{node.base}, the base of {node.hostname}, has had no security updates since {end_of_life}",
                "take a newer base where the board allows it, or keep the node off the internet",
            )
        )
    return sorted(found, key=lambda finding: list(Level).index(finding.level))


def _names(node: NodePlan) -> Iterator[Finding]:
    """Yield what becomes of a domain that multicast DNS has for itself (RFC 6762 section 3)."""
    domain = node.fqdn.partition(".")[2]
    if domain.endswith(".local") or (domain == "local" and not node.mdns):
        yield noted(
            f"the domain {domain} ends in .local, which is multicast DNS' own: nodes know each other all the same, by /etc/hosts, "
            "but other machines may ask no name server for such names",
            "home.arpa is meant for networks at home, and `network: {mdns: true}` lets nodes answer to NAME.local",
        )
