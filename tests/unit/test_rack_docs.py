"""docs/rack.md lists every state, stage and way to be stuck there is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.unit.test_boards_docs import filled

from pibake.rack.case import WORDS
from pibake.rack.rules import RULES
from pibake.rack.states import MARKS, STATES, Known, Node, Rack, Stuck
from pibake.rack.values import STAGES, Moment, Seen, Timeline
from pibake.serve import metrics

PAGE = Path(__file__).parents[2] / "docs/rack.md"
SHOWN = {word: word.upper() for word in WORDS}


def states() -> str:
    rows = [f"| `{MARKS[state]} {state}` | {meaning} |" for state, meaning in STATES.items()]
    return "\n".join(["| state | |", "|---|---|", *rows])


def stuck() -> str:
    head = ["| stuck at | recognised by | most likely cause | what to do |", "|---|---|---|---|"]
    rows = {
        f"| `{rule.at}` | {rule.seen} | {rule.cause.format_map(SHOWN)} | {rule.remedy.format_map(SHOWN)} |": None
        for rule in RULES
    }
    return "\n".join([*head, *rows])


def metric_rows() -> str:
    known = Known("node1", "10.0.0.1", "pi4", "", "", "nfs", True, "")
    boot = Timeline("node1", 1, (Moment("tftp", 1, 2, files=1, size=1, seconds=1.0),))
    engine = {"name": "dnsmasq", "state": "ready", "restarts": 0}
    rack = Rack("lab", 3, (engine,), (Node(known, "booting", "tftp", 1, timeline=boot),), ())
    rows = []
    for family in text_string_to_metric_families(metrics.text(rack, 1).decode()):
        name = family.samples[0].name
        labels = ", ".join(f"`{label}`" for label in family.samples[0].labels)
        rows.append(f"| `{name}` | {labels} | {family.documentation} |")
    return "\n".join(["| metric | labels | |", "|---|---|---|", *rows])


def test_the_tables_are_those_of_the_code(update_golden: bool) -> None:
    page = PAGE.read_text("utf-8")
    page = filled(filled(page, "states", states()), "stuck", stuck())
    page = filled(page, "metrics", metric_rows())
    if update_golden:
        PAGE.write_text(page, "utf-8")
    assert page == PAGE.read_text("utf-8")


def test_every_stage_and_every_key_of_the_json_is_named() -> None:
    page = PAGE.read_text("utf-8")
    keys = {field.name for kind in (Known, Stuck, Moment, Seen) for field in fields(kind)}
    assert [name for name in (*STAGES, *sorted(keys)) if f"`{name}`" not in page] == []
