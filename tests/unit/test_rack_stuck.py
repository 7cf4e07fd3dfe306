"""Why a boot does not go on: each rule has a boot that it is for, and boots that go well have none."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.racks import NOW, boot, known, moment

from pibake.boards import NETBOOT
from pibake.rack.case import LIMITS, WORDS, Case, Rule
from pibake.rack.rules import RULES
from pibake.rack.stuck import stuck
from pibake.rack.values import FAIL, OWN, WAIT, WIRE, Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

ASKS = moment("dhcp", 5, count=4)
LOADED = moment("tftp", 200, files=12, size=30 << 20, seconds=20.0)
KERNEL = [moment("dhcp", 300), LOADED, moment("kernel", 100)]
MENDED: dict[str, Any] = {"status": FAIL, "detail": "it is broken"}


def cloud(stage: str, ago: float = 30, **values: Any) -> list[Moment]:
    """Return a boot that has come to a stage of its own; those before are done."""
    before = OWN[: OWN.index(stage)]
    return [
        *KERNEL,
        *(moment(one, ago + 1) for one in ("root", "cloud-init", *before)),
        moment(stage, ago, **values),
    ]


BOOTS: tuple[tuple[str, str, dict[str, Any], Sequence[Moment], str], ...] = (
    ("dhcp", "Pi 2 and 3B", {"board": "pi3"}, [ASKS], "within its 25 s"),
    ("dhcp", "3B+", {"board": "pi3b+"}, [ASKS], "option 43 was first"),
    ("dhcp", "Pi 4, 5", {"board": "pi5"}, [ASKS], "asked 4 times"),
    ("dhcp", "UEFI", {"board": "generic"}, [ASKS], "port 4011"),
    ("dhcp", "a minute", {}, [moment("dhcp", 70)], "fell silent"),
    ("tftp", "device tree", {}, [ASKS, moment("tftp", 45, files=3, missing="abcd1234/bcm2711-rpi-4-b.dtb")], "no Raspberry Pi 4 Model B"),
    ("tftp", "firmware, configuration", {}, [ASKS, moment("tftp", 45, files=3, missing="abcd1234/start4.elf")], "no abcd1234/start4.elf"),
    ("tftp", "again and again", {}, [moment("dhcp", 5, count=9), moment("tftp", 3, files=40)], "9 times"),
    ("tftp", "200 kB/s", {}, [moment("tftp", 3, files=4, size=3 << 20, seconds=30.0)], "105 kB/s"),
    ("tftp", "gets none", {}, [moment("tftp", 45)], "none arrives"),
    ("tftp", "3B and 3B+", {"board": "pi3b+"}, [LOADED], "12 files"),
    ("tftp", "Pi 4, 400", {}, [LOADED], "above 64 MiB"),
    ("tftp", "Pi 5, 500", {"board": "pi5"}, [LOADED], "below 5 A"),
    ("tftp", "2 min: UEFI", {"board": "generic"}, [LOADED], "Secure Boot"),
    ("root", "the initramfs says", {}, [*KERNEL, moment("root", 3, status=FAIL, detail="no disk")], "no disk"),
    ("root", "root: nfs", {}, KERNEL, "NFS refused it"),
    ("root", "root: nbd", {"root": "nbd"}, KERNEL, "NBD refused it"),
    ("cloud-init", "that it failed", {}, [*KERNEL, moment("cloud-init", 3, **MENDED)], "it is broken"),
    ("cloud-init", "for 5 min", {}, [*KERNEL, moment("root", 301)], "waits for a network"),
    ("network", "waits for the address", {}, cloud("network", 61, status=WAIT, detail="no interface has it"), "no interface"),
    ("clock", "for 2 min", {}, cloud("clock", 121, status=WAIT, detail="it is 1970"), "1970"),
    ("endpoint", "another CA", {}, cloud("endpoint", **{**MENDED, "detail": "certificate of another CA"}), "another CA"),
    ("endpoint", "for 10 min", {}, cloud("endpoint", 601, status=WAIT, detail="nothing answers"), "nothing answers"),
    ("install", "data disk", {}, cloud("install", **{**MENDED, "detail": "data disk data: /dev/sda is not empty"}), "/dev/sda is not empty"),
    ("install", "15 min", {}, cloud("install", **MENDED), "it is broken"),
    ("join", "past its time", {}, cloud("join", **{**MENDED, "detail": "the bootstrap token x is unknown"}), "bootstrap token"),
    ("join", "refused", {}, cloud("join", **MENDED), "it is broken"),
    ("ready", "not Ready", {}, cloud("ready", 301, status=WAIT, detail="cni not initialized"), "cni"),
    ("scrubbed", "does not end", {}, cloud("scrubbed", 301, status=WAIT, detail="cloud-init has not ended"), "has not ended"),
    *(
        (stage, "says nothing of this one", {}, cloud(before, LIMITS[stage] + 1), f"since {before} was done")
        for before, stage in pairwise(OWN)
    ),
    ("network", "says nothing of this one", {}, [*KERNEL, moment("root", 61), moment("cloud-init", 61)], "since cloud-init was done"),
)  # fmt: skip
"""The stage, a part of the rule's `seen`, what sets the node apart, its boot, and a part of the cause."""


def rule(at: str, seen: str) -> Rule:
    found = [one for one in RULES if one.at == at and seen in one.seen]
    assert len(found) == 1, (at, seen, [one.seen for one in found])
    return found[0]


@pytest.mark.parametrize(("at", "seen", "values", "moments", "cause"), BOOTS)
def test_each_way_to_be_stuck_is_told(
    at: str, seen: str, values: dict[str, Any], moments: Sequence[Moment], cause: str
) -> None:
    node = known(**values)
    found = stuck(node, boot(*moments), NOW)
    assert found
    last = max(moments, key=lambda one: (*WIRE, *OWN).index(one.stage))
    words = Case(node, boot(*moments), last, NOW).words()
    assert (found.at, found.cause) == (at, rule(at, seen).cause.format_map(words))
    assert cause in found.cause
    assert found.remedy == rule(at, seen).remedy.format_map(words)
    assert "{" not in found.cause + found.remedy.replace("{dhcp: server}", "")


def test_every_rule_has_such_a_boot() -> None:
    assert {id(rule(at, seen)) for at, seen, *_ in BOOTS} == {id(one) for one in RULES}


@pytest.mark.parametrize("one", RULES, ids=lambda one: f"{one.at}-{one.seen}")
def test_a_rule_is_whole(one: Rule) -> None:
    assert set(one.boots) <= set(NETBOOT)
    words = dict.fromkeys(WORDS, "WORD")
    assert one.cause.format_map(words)
    assert one.remedy.format_map(words)


@pytest.mark.parametrize(
    "moments",
    [
        [moment("dhcp", 5)],
        [moment("dhcp", 5, count=2)],
        [moment("dhcp", 30, count=3), moment("tftp", 1, files=3, size=2 << 20, seconds=2.0)],
        [moment("tftp", 30, files=3, missing="abcd1234/bcm2711-rpi-4-b.dtb")],
        [moment("tftp", 2, size=1000, files=1, seconds=1.0)],
        [moment("tftp", 3, files=4, missing="abcd1234/recovery.elf")],
        [LOADED, moment("kernel", 80)],
        [*KERNEL, moment("root", 200)],
        cloud("network", 20),
        cloud("endpoint", 500, status=WAIT, detail="nothing answers"),
        cloud("install", 500),
        cloud("scrubbed", 90000),
    ],
    ids=lambda moments: f"{moments[-1].stage}-{NOW - moments[-1].last:.0f}",
)
def test_a_boot_that_goes_on_is_not_stuck(moments: Sequence[Moment]) -> None:
    assert stuck(known(), boot(*moments), NOW) is None


def test_a_node_that_was_not_heard_of_is_not_stuck() -> None:
    assert stuck(known(), None, NOW) is None
    assert stuck(known(), boot(), NOW) is None


def test_a_board_that_asks_again_while_it_loads_is_at_loading() -> None:
    moments = [moment("tftp", 10, files=2, size=2 << 20, seconds=2.0), moment("dhcp", 2, count=4)]
    assert stuck(known(), boot(*moments), NOW) is None


def test_a_slow_board_before_the_pi_4_may_take_longer_for_a_file() -> None:
    moments = boot(moment("tftp", 60, files=12, size=30 << 20, seconds=20.0))
    assert stuck(known(board="pi3"), moments, NOW) is None
    assert stuck(known(board="pi4"), moments, NOW)


def test_a_plain_machine_waits_for_no_api_server() -> None:
    late = stuck(known(member=False), boot(*cloud("clock", LIMITS["install"] + 1)), NOW)
    assert late
    assert late.at == "install"


def test_words_of_a_boards_are_no_templates() -> None:
    hostile = "{0.__class__} {node} %s"
    found = stuck(known(), boot(*cloud("join", status=FAIL, detail=hostile)), NOW)
    assert found
    assert found.cause == hostile
