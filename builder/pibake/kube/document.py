"""YAML for Kubernetes' own readers."""

from __future__ import annotations

import re
from typing import Any

import yaml

TEXT = "tag:yaml.org,2002:str"
PLAIN = re.compile(
    r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[A-Za-z/][\w./@-]*(?:[: ][\w./@-]+)*", re.IGNORECASE
)
"""Text that every reader of YAML takes for text: a letter first, and no word that stands for another value."""


class _Quoting(yaml.SafeDumper):
    """Quotes every text: Go's YAML takes 1e3 for a number where PyYAML's rules do not, and a node can be called so."""


class _Readable(yaml.SafeDumper):
    """Quotes a text only where some reader could take it for something else, and writes lines as lines."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Write what two places share twice, so that each can be read by itself."""
        return True


def _readable(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None if PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar(TEXT, text, style=style)


_Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar(TEXT, text, style='"'))
_Readable.add_representer(str, _readable)


def dump(*documents: Any) -> str:
    """Return documents as one YAML text, a value a line, in the order of their keys."""
    return yaml.dump_all(documents, Dumper=_Quoting, sort_keys=False, width=1 << 20)


def readable(*documents: Any) -> str:
    """Return documents as one YAML text that people like to read as well, in the order of their keys."""
    return yaml.dump_all(documents, Dumper=_Readable, sort_keys=False, width=1 << 20)
