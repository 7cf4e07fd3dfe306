"""Are these secrets what a cluster can live on? Asked each time they are read: people restore and edit folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.identity import bootkey, hostkeys, pki, tokens
from pibake.identity.model import AUTHORITIES, K3S, TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pibake.identity.model import Pair, Secrets


def check(secrets: Secrets, now: datetime) -> None:
    """Raise one PibakeError that names everything wrong with `secrets`, and none of their values."""
    found = list(problems(secrets, now))
    if not found:
        return
    about = f"the secrets of the cluster {secrets.cluster}"
    text = f"{about}: {found[0]}" if len(found) == 1 else f"{about}:\n  " + "\n  ".join(found)
    raise PibakeError(text, "restore the secrets folder from a copy; `pibake secrets rotate` makes new ones")


def problems(secrets: Secrets, now: datetime) -> Iterator[str]:
    """Yield what is wrong, one sentence each; what was never issued is not wrong, `issue` makes it."""
    sound = True
    for name in AUTHORITIES[secrets.distribution]:
        if name in secrets.authorities and (text := _authority(secrets.authorities[name], now)):
            sound = False
            yield f"the certificate authority {name} {text}"
    yield from _keys(secrets)
    pin = (
        secrets.ca_pin if sound and secrets.distribution == K3S and "server-ca" in secrets.authorities else ""
    )
    for kind in TOKENS[secrets.distribution]:
        if kind not in secrets.tokens or (not pin and not sound):
            continue  # without a sound CA there is nothing to compare a pin with
        if text := tokens.problem(kind, secrets.tokens[kind], pin):
            yield f"the {kind} token {text}"
    for name, node in secrets.nodes.items():
        if text := hostkeys.problem(node.host_key):
            yield f"the SSH host key of {name} {text}"
        if text := tokens.problem("node-password", node.node_password, ""):
            yield f"the node password of {name} {text}"
    yield from _passwords(secrets)


def _passwords(secrets: Secrets) -> Iterator[str]:
    for name, options in secrets.addons.items():
        for option, password in options.items():
            if len(password.reveal()) < tokens.SHORTEST:
                yield f"the password {option} of the add-on {name} is shorter than {tokens.SHORTEST} characters"


def _authority(pair: Pair, now: datetime) -> str:
    try:
        certs = pki.certificates(pair.cert)
    except ValueError:
        return "has a damaged certificate"
    try:
        if not pki.belongs(certs[0], pair.key):
            return "does not match its key"
    except ValueError as error:
        return f"has an unusable key: {error}"
    if not all(map(pki.is_authority, certs)):
        return "is not a certificate authority: it may not sign certificates"
    begin = max(pki.valid(cert)[0] for cert in certs)
    end = min(pki.valid(cert)[1] for cert in certs)
    if now < begin:
        return f"is not valid before {begin:%Y-%m-%d}; this computer says it is {now:%Y-%m-%d}"
    return f"expired on {end:%Y-%m-%d}" if now > end else ""


def _keys(secrets: Secrets) -> Iterator[str]:
    if secrets.service_account is not None and (text := _account(secrets)):
        yield f"the service-account key {text}"
    if secrets.boot_key is not None and (text := bootkey.problem(secrets.boot_key)):
        yield f"the boot key {text}"


def _account(secrets: Secrets) -> str:
    if secrets.service_account is None:
        return ""
    if not secrets.service_account.reveal().startswith("-----BEGIN RSA PRIVATE KEY-----"):
        return "is not an RSA key (BEGIN RSA PRIVATE KEY)"
    try:
        pki.private_key(secrets.service_account)
    except ValueError as error:
        return f"is unusable: {error}"
    return ""
