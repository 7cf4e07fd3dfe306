"""`Imported` -> the text of a cluster.yaml, or of one entry of its `nodes`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pibake import resources
from pibake.config.model import DEFAULT_BASE
from pibake.imported.logins import key_url

if TYPE_CHECKING:
    from pibake.imported.values import Imported

BARE = re.compile(r"[A-Za-z/][\w./+-]*")
WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""What YAML 1.1 or 1.2 takes for something else than text."""


def cluster_yaml(imported: Imported, source: str, *, secrets: bool, overlay: bool) -> str:
    """Return a whole commented cluster.yaml with this one node.

    Args:
        imported: the node, and what is around it.
        source: where it came from, for the comment on top.
        secrets: write password hashes and the Wi-Fi key; else comments stand in their places.
        overlay: the folder overlays/HOSTNAME is written beside the file.
    """
    return _render(imported, whole=True, source=source, secrets=secrets, overlay=overlay, indent="  ")


def node_entry(imported: Imported, *, indent: str = "  ") -> str:
    """Return one entry for the `nodes` of a cluster.yaml; it holds no secret."""
    return _render(imported, whole=False, source="", secrets=False, overlay=False, indent=indent)


def _render(
    imported: Imported, *, whole: bool, source: str, secrets: bool, overlay: bool, indent: str
) -> str:
    return resources.render(
        "cloud-init/imported.yaml.j2",
        made=imported,
        whole=whole,
        source="".join(c if c.isprintable() else "?" for c in source),
        secrets=secrets,
        overlay=overlay,
        indent=indent,
        base=DEFAULT_BASE,
        q=_scalar,
        is_url=key_url,
    )


def _scalar(text: str) -> str:
    """Return a text as a YAML scalar: bare where every reader takes it for text, else as JSON."""
    plain = BARE.fullmatch(text) and text.lower() not in WORDS
    address = re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?", text)
    return text if plain or address else json.dumps(text, ensure_ascii=False)
