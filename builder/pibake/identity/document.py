"""Identities as the JSON document they are kept in; it holds every secret in the clear."""

from __future__ import annotations

import json
from typing import Any

from pibake.errors import PibakeError
from pibake.identity.model import AUTHORITIES, HostKey, NodeSecrets, Pair, Secrets
from pibake.secret import Secret

FORMAT = "pibake-identity"
VERSION = 1
RESTORE = "restore it from a copy, or move it away and issue anew: then every card has to be built again"


def dumps(secrets: Secrets) -> Secret:
    """Return the document."""
    account, boot_key = secrets.service_account, secrets.boot_key
    value: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "cluster": secrets.cluster,
        "distribution": secrets.distribution,
        "issued": secrets.issued,
        "authorities": {
            name: {"cert": pair.cert, "key": pair.key.reveal()} for name, pair in secrets.authorities.items()
        },
        "service_account": account.reveal() if account else None,
        "tokens": {kind: token.reveal() for kind, token in secrets.tokens.items()},
        "nodes": {
            name: {
                "role": node.role,
                "host_key": {"private": node.host_key.private.reveal(), "public": node.host_key.public},
                "node_password": node.node_password.reveal(),
            }
            for name, node in secrets.nodes.items()
        },
    }
    if boot_key is not None:
        value["boot_key"] = boot_key.reveal()
    if secrets.addons:
        value["addons"] = {
            name: {option: password.reveal() for option, password in options.items()}
            for name, options in secrets.addons.items()
        }
    return Secret(json.dumps(value, indent=2) + "\n")


def loads(document: Secret, source: str) -> Secrets:
    """Return the identities of a document; `source` is the file it came from.

    Raises:
        PibakeError: it is cut short, damaged, or of another version; its content is never quoted.
    """
    try:
        value = json.loads(document.reveal())
    except ValueError:
        # `from None`: the decoder's error carries the whole document
        raise PibakeError(f"{source} is damaged or cut short: it is no JSON", RESTORE) from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise PibakeError(f"{source} is not a file of pibake's secrets", RESTORE)
    version = value.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        raise PibakeError(
            f"{source} is of another version than this pibake reads ({VERSION})",
            "it was written by a newer pibake: update this one" if newer else RESTORE,
        )
    return _secrets(value, source)


def _secrets(value: dict[str, Any], source: str) -> Secrets:
    distribution = _text(value, "distribution", source)
    if distribution not in AUTHORITIES:
        raise PibakeError(f"{source}: pibake knows no such distribution", RESTORE)
    account = value.get("service_account")
    return Secrets(
        cluster=_text(value, "cluster", source),
        distribution=distribution,
        issued=_text(value, "issued", source),
        authorities={
            name: Pair(_text(pair, "cert", source, name), Secret(_text(pair, "key", source, name)))
            for name, pair in _table(value, "authorities", source).items()
        },
        service_account=None if account is None else Secret(_text(value, "service_account", source)),
        tokens={
            kind: Secret(_text(_table(value, "tokens", source), kind, source, "tokens"))
            for kind in _table(value, "tokens", source)
        },
        nodes={name: _node(node, source, name) for name, node in _table(value, "nodes", source).items()},
        boot_key=Secret(_text(value, "boot_key", source)) if "boot_key" in value else None,
        addons=_addons(_table(value, "addons", source), source) if "addons" in value else {},
    )


def _addons(value: dict[str, Any], source: str) -> dict[str, dict[str, Secret]]:
    return {
        name: {
            option: Secret(_text(options, option, source, name))
            for options in [_table(value, name, source, "addons")]
            for option in options
        }
        for name in value
    }


def _node(value: Any, source: str, name: str) -> NodeSecrets:
    key = _table(value, "host_key", source, name)
    return NodeSecrets(
        _text(value, "role", source, name),
        HostKey(Secret(_text(key, "private", source, name)), _text(key, "public", source, name)),
        Secret(_text(value, "node_password", source, name)),
    )


def _text(value: Any, key: str, source: str, place: str = "") -> str:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise PibakeError(f"{source} is damaged: it has no {f'{place}: ' if place else ''}{key}", RESTORE)
    return found


def _table(value: Any, key: str, source: str, place: str = "") -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise PibakeError(f"{source} is damaged: it has no {f'{place}: ' if place else ''}{key}", RESTORE)
    return found
