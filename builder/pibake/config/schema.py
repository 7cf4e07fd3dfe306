"""The JSON Schema of cluster.yaml (draft 2020-12), for editors.

It says less than pibake checks: editors read YAML 1.2's types, and know nothing of other values, files or bases.
"""

from __future__ import annotations

from typing import Any

from pibake.config import schema_addons
from pibake.config.model import ClusterFile
from pibake.config.model_addons import OwnAddon
from pibake.config.own_addons import KINDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "pibake cluster.yaml"


def json_schema() -> dict[str, Any]:
    """Return the schema of the models, without what Python needs and YAML does not have."""
    schema: dict[str, Any] = _plain(ClusterFile.model_json_schema())
    own = {**_plain(OwnAddon.model_json_schema()), "oneOf": [{"required": [kind]} for kind in KINDS]}
    schema["$defs"] |= {**own.pop("$defs"), OwnAddon.__name__: own}
    schema["properties"]["addons"] = schema_addons.addons(schema["properties"]["addons"])
    return {"$schema": DIALECT, **schema, "title": TITLE}


def _plain(value: Any) -> Any:
    """Take out null: an optional key is left out, and an empty one is a mistake."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {
        key: _plain(item) for key, item in value.items() if key != "default" or item not in (None, {}, [])
    }
    if isinstance(found.get("default"), dict):
        del found["default"]
    choices = found.get("anyOf")
    if not isinstance(choices, list) or {"type": "null"} not in choices:
        return found
    others = [choice for choice in choices if choice != {"type": "null"}]
    del found["anyOf"]
    return {**found, **(others[0] if len(others) == 1 else {"anyOf": others})}
