"""Kubeconfig files: one for this cluster, and this cluster put into one that is there.

Source: Kubernetes' API reference, client-authentication and "Config" v1 (k8s.io/client-go/tools/clientcmd/api/v1).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import yaml

from pibake.errors import PibakeError

if TYPE_CHECKING:
    from pibake.identity.model import Pair, Secrets


def kubeconfig(secrets: Secrets, server: str, pair: Pair, user: str, proxy: str = "") -> str:
    """Return a kubeconfig whose cluster and context are named after the cluster.

    The user's entry is `USER@CLUSTER`: every kubeadm cluster has a kubernetes-admin, and files are merged. `proxy` is the
    URL of a SOCKS proxy that the server is reached through.
    """
    cluster, entry = secrets.cluster, f"{user}@{secrets.cluster}"
    return _dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": _data(secrets.ca.cert),
                        **({"proxy-url": proxy} if proxy else {}),
                    },
                }
            ],
            "users": [
                {
                    "name": entry,
                    "user": {
                        "client-certificate-data": _data(pair.cert),
                        "client-key-data": _data(pair.key.reveal()),
                    },
                }
            ],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": entry}}],
            "current-context": cluster,
        }
    )


def merge(there: str, new: str, source: str) -> str:
    """Return the kubeconfig `there` with the entries of `new`; the context it has stays the current one.

    Raises:
        PibakeError: what is there is no kubeconfig; `source` is the file it came from.
    """
    add = _load(new, "the new kubeconfig")
    old = _load(there, source) if there.strip() else {}
    merged = {"apiVersion": "v1", "kind": "Config", **old}
    for section in ("clusters", "users", "contexts"):
        names = {entry["name"] for entry in add[section]}
        kept = [entry for entry in old.get(section) or [] if entry["name"] not in names]
        merged[section] = kept + add[section]
    merged["current-context"] = old.get("current-context") or add["current-context"]
    return _dump(merged)


def _load(text: str, source: str) -> dict[str, Any]:
    hint = "give another file with -o, or move this one away"
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader with fewer types
    except (yaml.YAMLError, ValueError):
        # `from None`: the parser's error quotes the line, and that may be a key
        raise PibakeError(f"{source} is not YAML, so it is not touched", hint) from None
    sections = ("clusters", "users", "contexts")
    if (
        not isinstance(value, dict)
        or value.get("kind", "Config") != "Config"
        or not any(key in value for key in (*sections, "kind"))
        or not all(_is_list_of_named(value.get(section) or []) for section in sections)
    ):
        raise PibakeError(f"{source} is not a kubeconfig, so it is not touched", hint)
    return value


def _is_list_of_named(entries: Any) -> bool:
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
    )


class _Loader(yaml.SafeLoader):
    """Leaves times as the text they are: written back as YAML's own type they would look different."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _data(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _dump(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1 << 20)
