"""Who a cluster and its nodes are, decided before any of them has power.

CAs, tokens tied to them, service-account keys, SSH host keys and node passwords are issued on the builder. Values
in, values out: the clock is an argument, randomness is used where something is issued, and no file is touched
(`pibake.vault` keeps them). Private texts are `Secret`s throughout.
"""

from __future__ import annotations

from pibake.identity import layout, summary
from pibake.identity.checking import check
from pibake.identity.document import dumps, loads
from pibake.identity.hostkeys import known_hosts
from pibake.identity.issuing import (
    ADDONS,
    ROTATIONS,
    admin,
    admin_certificate,
    client_certificate,
    issue,
    rotate,
)
from pibake.identity.kubeconfig import kubeconfig, merge
from pibake.identity.model import HostKey, NodeSecrets, Pair, Secrets, Wanted

__all__ = [
    "ADDONS",
    "ROTATIONS",
    "HostKey",
    "NodeSecrets",
    "Pair",
    "Secrets",
    "Wanted",
    "admin",
    "admin_certificate",
    "check",
    "client_certificate",
    "dumps",
    "issue",
    "known_hosts",
    "kubeconfig",
    "layout",
    "loads",
    "merge",
    "rotate",
    "summary",
]
