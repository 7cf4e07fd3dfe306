"""SSH keys that stand at a URL (`https://github.com/NAME.keys`), fetched at build time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.plan import NodePlan

LIMIT = 64 << 10
TIMEOUT = (10, 20)


def resolve(nodes: Sequence[NodePlan]) -> dict[str, tuple[str, ...]]:
    """Return the authorized_keys lines of every user, by user name; each URL is fetched once.

    Raises:
        FetchError: a URL does not answer with public keys.
    """
    fetched: dict[str, tuple[str, ...]] = {}
    users = {user.name: user for node in nodes for user in node.users}
    for user in users.values():
        for key in user.ssh_keys:
            if key.url and key.url not in fetched:
                fetched[key.url] = _fetch(key.url)
    return {
        user.name: tuple(
            dict.fromkeys(
                line for key in user.ssh_keys for line in (fetched[key.url] if key.url else (key.text,))
            )
        )
        for user in users.values()
    }


def _fetch(url: str) -> tuple[str, ...]:
    import requests  # noqa: PLC0415 - slow to import, and most keys stand in the file

    hint = "put the key's text into cluster.yaml, or name a file with {file: ...}"
    try:
        with requests.get(url, timeout=TIMEOUT, stream=True) as answer:
            answer.raise_for_status()
            text = answer.raw.read(LIMIT + 1, decode_content=True).decode("utf-8", "replace")
    except requests.RequestException as error:
        raise FetchError(f"cannot fetch SSH keys from {url}: {error}", hint) from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    wrong = [line for line in lines if not re.match(r"(ssh|ecdsa|sk)-\S+ AAAA[\w+/=]+", line)]
    if not lines or wrong or len(text) > LIMIT:
        raise FetchError(f"{url} does not answer with public SSH keys", hint)
    return tuple(lines)
