"""YAML for Kubernetes' own readers."""

from __future__ import annotations

from typing import Any

import yaml


class _Quoting(yaml.SafeDumper):
    """Quotes every text: Go's YAML takes 1e3 for a number where PyYAML's rules do not, and a node can be called so."""


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def dump(*documents: Any) -> str:
    """Return documents as one YAML text, a value a line, in the order of their keys."""
    return yaml.dump_all(documents, Dumper=_Quoting, sort_keys=False, width=1 << 20)
