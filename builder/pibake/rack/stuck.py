"""Why a boot does not go on: the most likely cause, from the order of what was heard, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.rack.case import Case
from pibake.rack.rules import RULES
from pibake.rack.states import Stuck
from pibake.rack.values import LOADING, STAGES

if TYPE_CHECKING:
    from pibake.rack.states import Known
    from pibake.rack.values import Timeline


def stuck(known: Known, timeline: Timeline | None, now: float) -> Stuck | None:
    """Return why a node's boot does not go on; None if it does, as far as can be told, or has not begun.

    Its words may be the node's own (`Moment.detail`, `Moment.missing`), so nothing to trust.
    """
    if timeline is None or not timeline.moments:
        return None
    at = max(timeline.moments, key=lambda one: STAGES.index(one.stage))
    case = Case(known, timeline, at, now)
    # what comes before the kernel has no end that anybody tells of
    due = case.pending if at.stage not in LOADING else at.stage
    for rule in RULES:
        if (
            rule.at == due
            and case.board.netboot in (rule.boots or (case.board.netboot,))
            and rule.applies(case)
        ):
            words = case.words()
            return Stuck(rule.at, rule.cause.format_map(words), rule.remedy.format_map(words))
    return None
