"""The running cluster, through kubectl: with a kubeconfig that lives as long as one command.

A bootstrap token is a Secret of a type of its own (Kubernetes documentation, "Authenticating with Bootstrap
Tokens"). A k3s node's password is kept as NAME.node-password.k3s in kube-system (k3s documentation, "Architecture").
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pibake import identity
from pibake.errors import CommandFailed, PibakeError
from pibake.run import run
from pibake.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pibake.identity import Secrets

SESSION = timedelta(hours=1)
DRAIN = ("--ignore-daemonsets", "--delete-emptydir-data")


class Live:
    """A cluster that answers; made by `connected`."""

    def __init__(self, secrets: Secrets, kubeconfig: Path) -> None:
        self.secrets = secrets
        self.kubeconfig = kubeconfig

    def kubectl(self, *arguments: str, why: str, document: Any = None, hidden: Sequence[str] = ()) -> str:
        """Run kubectl, feeding it a document if there is one, and return what it printed; `hidden` is never quoted.

        Raises:
            CommandFailed: it failed; no secret is in what the error quotes.
        """
        argv = ["kubectl", "--kubeconfig", str(self.kubeconfig), "--request-timeout=30s", *arguments]
        fed = None if document is None else json.dumps(document).encode()
        done = run(argv, why=why, stdin=fed, check=False)
        if done.code:
            said = done.stderr or done.stdout
            for value in (*self.secrets.values(), *hidden):
                said = said.replace(value, MASK)
            raise CommandFailed(["kubectl", *arguments], done.code, said, why=why)
        return done.stdout

    def remove(self, node: str, *, drain: bool) -> list[str]:
        """Take a node out of the cluster; return what was done, which for one that is gone already is nothing."""
        done = []
        if self.kubectl(
            "get", "node", node, "--ignore-not-found", "-o", "name", why=f"look for {node}"
        ).strip():
            if drain:
                # evictions have time limits of their own, and a dead board never answers
                self.kubectl(
                    "drain",
                    node,
                    *DRAIN,
                    "--timeout=300s",
                    "--request-timeout=0",
                    why=f"move pods off {node}",
                )
                done.append(f"drained {node}")
            self.kubectl("delete", "node", node, "--ignore-not-found", why=f"remove {node}")
            done.append(f"deleted the node {node}")
        if self.secrets.distribution == "k3s":
            # without it, a card with a new password would be refused under the old name
            self.kubectl("-n", "kube-system", "delete", "secret", f"{node}.node-password.k3s",
                         "--ignore-not-found", why=f"remove the password of {node}")  # fmt: skip
        return done

    def replace_token(self, old: Secrets, ttl: timedelta | None) -> None:
        """Tell the cluster the bootstrap token, good for `ttl` (None: for ever), and to take the old one no more."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", why="store the new token",
                     document=bootstrap_token(self.secrets, ttl, datetime.now(UTC)))  # fmt: skip
        if old.tokens["bootstrap"] != self.secrets.tokens["bootstrap"]:
            gone = bootstrap_token(old, None, datetime.now(UTC))
            self.kubectl("delete", "--ignore-not-found", "-f", "-", why="remove the old token", document=gone)

    def apply_secrets(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Put Secret objects, with their texts in `data`, in place of those that the cluster has."""
        coded = [str(text) for one in objects for text in one.get("data", {}).values()]
        plain = [base64.b64decode(text).decode("utf-8", "replace") for text in coded]
        hidden = sorted({*coded, *plain}, key=len, reverse=True)
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=pibake", "-f", "-",
                     why="store the add-ons' Secrets", document=document, hidden=[one for one in hidden if one.strip()])  # fmt: skip


@contextmanager
def connected(secrets: Secrets, url: str) -> Iterator[Live]:
    """Talk to the API server at `url` as administrator, by a certificate for an hour, in memory where there is any."""
    pair = identity.admin_certificate(secrets, SESSION, datetime.now(UTC))
    text = identity.kubeconfig(secrets, url, pair, identity.admin(secrets))
    memory = Path(os.environ.get("XDG_RUNTIME_DIR", "/dev/shm"))  # noqa: S108 - the folder made in it is private
    with tempfile.TemporaryDirectory(
        prefix="pibake-", dir=memory if os.access(memory, os.W_OK) else None
    ) as folder:
        path = Path(folder) / "kubeconfig"
        path.touch(0o600)
        path.write_text(text, "utf-8")
        yield Live(secrets, path)


def commands(node: str, distribution: str) -> list[str]:
    """Return what `Live.remove` does, as a person would type it."""
    lines = [f"kubectl drain {node} {' '.join(DRAIN)}", f"kubectl delete node {node}"]
    if distribution == "k3s":
        lines.append(f"kubectl -n kube-system delete secret {node}.node-password.k3s --ignore-not-found")
    return lines


def bootstrap_token(secrets: Secrets, ttl: timedelta | None, now: datetime) -> dict[str, Any]:
    """Return the Secret that makes an API server take the bootstrap token, as `kubeadm token create` writes it."""
    token = secrets.tokens.get("bootstrap")
    if token is None:
        raise PibakeError(f"the cluster {secrets.cluster} has no bootstrap token")
    public, _, private = token.reveal().partition(".")
    data = {
        "description": "made by pibake",
        "token-id": public,
        "token-secret": private,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    }
    if ttl is not None:
        data["expiration"] = (now + ttl).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{public}", "namespace": "kube-system"},
        "stringData": data,
    }
