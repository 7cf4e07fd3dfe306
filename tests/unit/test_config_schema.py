"""The JSON Schema for editors: it takes what pibake takes, and underlines the simple mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pibake import config

INVALID = Path(__file__).parents[1] / "invalid"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT me@laptop"
GOOD = f"""
cluster: lab
domain: lab.example
defaults: {{base: debian-13, board: pi4, locale: C.UTF-8, timezone: Etc/UTC, overlays: [motd]}}
network:
  subnet: 192.168.10.0/24
  gateway: 192.168.10.1
  dns: [192.168.10.1, 1.1.1.1]
  search: [lab.example]
  vlan: 10
  ipv6: {{subnet: fd00:10::/64, gateway: fd00:10::1, ra: false}}
  wifi: {{ssid: 12345, psk: {"4" * 64}, country: DE}}
users:
  - name: ops
    ssh_keys: ["{KEY}", {{file: ~/.ssh/id_ed25519.pub}}, {{url: https://github.com/me.keys}}]
    sudo: true
    groups: [video]
nodes:
  - {{hostname: node3, address: 192.168.10.13/24, role: server, labels: {{disk: ssd, fast: true, rack: 7}}, address6: fd00:10::13/64, link: wifi}}
  - {{hostname: node4.lab.example, address: 192.168.10.14, serial: 12345678, mac: dc:a6:32:01:02:03}}
  - hostname: node5
    address: 192.168.10.15
    base: {{url: https://files.lab.example/a.img.xz, sha256: {"0" * 64}}}
  - hostname: node6
    address: 192.168.10.16
    base: {{file: a.img, sha256: {"f" * 64}}}
"""


@pytest.fixture(scope="module")
def judge() -> Any:
    schema = config.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_full_example_is_valid(judge: Any) -> None:
    assert [error.message for error in judge.iter_errors(yaml.safe_load(GOOD))] == []


def test_every_mapping_refuses_unknown_keys() -> None:
    schema = config.json_schema()
    assert schema["additionalProperties"] is False
    assert all(kind["additionalProperties"] is False for kind in schema["$defs"].values())


def test_null_is_no_value_anywhere_but_for_an_add_on_that_needs_no_options() -> None:
    schema = config.json_schema()
    assert ": null" not in json.dumps(schema)
    for addon in schema["properties"]["addons"]["properties"].values():
        assert addon.pop("type") == ("object" if "required" in addon else ["object", "null"])
    assert '"null"' not in json.dumps(schema)


def test_every_key_has_a_title_and_a_description() -> None:
    schema = config.json_schema()
    for kind in (schema, *schema["$defs"].values()):
        for key, field in kind["properties"].items():
            assert field.get("description") or "$ref" in field, key
            assert field.get("title") or "$ref" in field, key


@pytest.mark.parametrize(
    "name",
    [
        "boards", "cluster-name", "empty-lists", "four-name-servers", "hostnames", "missing-keys",
        "missing-sections", "password-in-clear", "roles", "several-at-once", "top-level-list",
        "top-level-text", "unknown-keys", "vlan-0", "vlan-4095", "vlan-ten", "wrong-kinds",
    ],
)  # fmt: skip
def test_simple_mistakes_are_underlined(judge: Any, name: str) -> None:
    data = yaml.safe_load((INVALID / f"{name}.yaml").read_text("utf-8"))
    assert not judge.is_valid(data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sudo: true", "sudo: maybe"),
        ("vlan: 10", "vlan: ten"),
        ("mac: dc:a6:32:01:02:03", "mac: dca632"),
        ("role: server", "role: master"),
        ("board: pi4", "board: rpi4"),
        ("192.168.10.0/24", "192.168.10.0"),
        ("https://github.com/me.keys", "http://github.com/me.keys"),
        ("file: a.img, sha256", "path: a.img, sha256"),
        ("cluster: lab\n", ""),
    ],
)
def test_one_wrong_value_makes_the_example_invalid(judge: Any, old: str, new: str) -> None:
    assert old in GOOD
    assert not judge.is_valid(yaml.safe_load(GOOD.replace(old, new)))
