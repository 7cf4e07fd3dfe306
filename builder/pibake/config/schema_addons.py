"""The JSON Schema of `addons:`, for editors: every add-on of the catalogue with its options, and one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake import offers
from pibake.config.leaves import DNS_NAME, SCALAR
from pibake.config.model_addons import OwnAddon

if TYPE_CHECKING:
    from pibake.offers import Entry, Option

FORMATS: dict[str, dict[str, Any]] = {
    "ip": {"pattern": "^[0-9A-Fa-f.:]+$"},
    "cidr": {"pattern": "^[0-9A-Fa-f.:]+/[0-9]{1,3}$"},
    "ip-range": {"pattern": "^[0-9A-Fa-f.:]+(/[0-9]{1,3}| *- *[0-9A-Fa-f.:]+)$"},
    "hostname": {"pattern": DNS_NAME},
    "email": {"format": "email"},
    "url": {"format": "uri", "pattern": "^https?://"},
    "quantity": {"type": ["string", "number"]},
    "host-port": {"pattern": ":[0-9]{1,5}$"},
    "duration": {"pattern": "^([0-9]+(ms|[smhdwy]))+$"},
    "file": {"minLength": 1},
    "secret-file": {"minLength": 1},
}
"""Format of the catalogue -> what editors are told of it."""
VALUES = "A YAML file beside cluster.yaml with values of the chart, which are merged last."


def addons(described: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of `addons`; `described` has its title and its description."""
    entries = {name: _entry(name, entry) for name, entry in offers.catalogue().items()}
    own = {"$ref": f"#/$defs/{OwnAddon.__name__}"}
    return {**described, "type": "object", "properties": entries, "additionalProperties": own}


def _entry(name: str, entry: Entry) -> dict[str, Any]:
    options = {key: _option(option, key) for key, option in entry.options.items()}
    if entry.chart:
        options["values"] = {"type": "string", "title": "Values", "description": VALUES}
    required = [key for key in entry.required if key not in entry.generated]
    status = f" {entry.status}" if entry.status else ""
    return {
        # an add-on that needs no option may be written without any
        "type": "object" if required else ["object", "null"],
        "title": name,
        "description": f"{entry.summary}{status}",
        "properties": options,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _option(option: Option, title: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"type": option.type}
    if title:
        found["title"] = title.replace("_", " ").capitalize()
    found |= {
        key: list(item) if isinstance(item, tuple) else item
        for key in ("description", "enum", "pattern", "minimum", "maximum", "default", "examples")
        if (item := getattr(option, key)) not in (None, "", ())
    }
    if option.type == "string" and not option.pattern and not option.enum:
        found |= FORMATS[option.format] if option.format else {"type": SCALAR}
    if option.min_items:
        found["minItems"] = option.min_items
    if option.items:
        found["items"] = _option(option.items)
    if option.properties is not None:
        found["properties"] = {key: _option(inner, key) for key, inner in option.properties.items()}
        found["additionalProperties"] = False
    elif option.additional:
        found["additionalProperties"] = _option(option.additional)
    if option.required:
        found["required"] = list(option.required)
    return found
