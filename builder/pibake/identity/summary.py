"""What was issued, without any of it: for a table, and for scripts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.identity import bootkey, hostkeys, pki
from pibake.identity.model import K3S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pibake.identity.model import Secrets


@dataclass(frozen=True)
class Row:
    """One thing issued: what it is, whose, how to recognise it, and the day it ends ("" for never)."""

    what: str
    owner: str
    mark: str
    expires: str


def rows(secrets: Secrets) -> Iterator[Row]:
    """Yield what was issued; a mark is a fingerprint of a public part, or the CA that a token is tied to."""
    for name, pair in secrets.authorities.items():
        try:
            end = f"{pki.valid(pki.certificates(pair.cert)[0])[1]:%Y-%m-%d}"
            yield Row(f"authority {name}", "servers", f"sha256:{pki.fingerprint(pair.cert)}", end)
        except ValueError:
            yield Row(f"authority {name}", "servers", "damaged", "")
    if secrets.service_account is not None:
        yield Row("service-account key", "servers", "", "")
    if secrets.boot_key is not None:
        yield Row(
            "boot key", "boards that boot by HTTP", f"sha256:{bootkey.fingerprint(secrets.boot_key)}", ""
        )
    for kind in secrets.tokens:
        who = "servers" if kind in {"server", "certificate-key"} else "every node"
        yield Row(f"{kind} token", who, _pin(secrets) if kind != "certificate-key" else "", "")
    for name, node in secrets.nodes.items():
        yield Row("SSH host key", name, hostkeys.fingerprint(node.host_key), "")
        if secrets.distribution == K3S:
            yield Row("node password", name, "", "")
    for name, options in secrets.addons.items():
        for option in options:
            yield Row("add-on password", f"addon/{name}/{option}", "", "")


def ends(secrets: Secrets) -> dict[str, datetime]:
    """Return when the certificate of each authority ends, by its name; those that are damaged are left out."""
    found = {}
    for name, pair in secrets.authorities.items():
        with suppress(ValueError):
            found[name] = pki.valid(pki.certificates(pair.cert)[0])[1]
    return found


def _pin(secrets: Secrets) -> str:
    try:
        return f"CA {secrets.ca_pin}"
    except ValueError:
        return "CA damaged"
