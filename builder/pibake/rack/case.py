"""A boot that is looked at for why it does not go on, the limits past which that is worth a word, and what a rule about it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.boards import BOARDS
from pibake.probe.models import MODELS, Need
from pibake.rack.values import OK, STAGES, WAIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.boards import Board
    from pibake.rack.states import Known
    from pibake.rack.values import Moment, Timeline

UNANSWERED = 3
"""Questions for an address with nothing loaded after them: a boot that goes well has one, and a REQUEST."""
ROUNDS = 8
"""Questions for an address while files are loaded, but no kernel starts: the board begins again and again."""
SILENT = 60.0
"""Seconds in which a board that goes on asking for an address has asked again."""
STOPPED = {"eeprom-2711": 40.0, "eeprom-2712": 40.0}
"""Netboot generation -> seconds without a file: an EEPROM gives one file 30 (TFTP_FILE_TIMEOUT), and waits 5 before it tries again."""
PATIENT = 120.0
"""The same, of boards that give a file the time it takes: 40 MB at 400 kB/s."""
SLOW = 200e3
"""Bytes per second that are too few: a 3B comes to 400 kB/s with its blocks of 512 bytes (firmware issue 1129)."""
ENOUGH = 1 << 20
"""Bytes after which a rate means something."""
LIMITS = {
    "root": 90.0, "cloud-init": 300.0, "network": 60.0, "clock": 120.0, "endpoint": 600.0,
    "install": 900.0, "join": 600.0, "ready": 300.0, "scrubbed": 300.0,
}  # fmt: skip
"""Stage -> seconds for which it may wait, or be waited for."""
PROBES = {
    *(
        name
        for model in MODELS.values()
        for stage in model.stages
        for name, need in stage.files
        if need in {Need.OPTIONAL, Need.ABSENT}
    ),
    "overlay_map.dtb", "pieeprom.upd", "recovery.bin", "revocations.efi", "tryboot.txt", "vl805.bin",
}  # fmt: skip
"""Files that boards ask for, and do without (docs/probe.md, docs/netboot-firmware.md); that one is not there is no news."""
WORDS = ("node", "address", "board", "count", "files", "missing", "rate", "detail", "before", "minutes")
"""What `Case.words` has."""


@dataclass(frozen=True)
class Case:
    """One boot of a node at `now` (seconds since 1970); `at` is the last stage it has come to."""

    known: Known
    timeline: Timeline
    at: Moment
    now: float

    @property
    def board(self) -> Board:
        """The kind of board."""
        return BOARDS[self.known.board]

    @property
    def quiet(self) -> float:
        """Seconds since it was last heard of in its last stage."""
        return self.now - self.at.last

    @property
    def pending(self) -> str:
        """The stage that it is in, or that is due after it; "" after the last."""
        stages = [one for one in STAGES if self.known.member or one != "endpoint" or one == self.at.stage]
        return [*stages, ""][stages.index(self.at.stage) + (self.at.status == OK)]

    @property
    def failed(self) -> bool:
        """Whether something is wrong, by the node's own word."""
        return self.at.status not in {OK, WAIT}

    @property
    def late(self) -> bool:
        """Whether the pending stage takes longer than it may; one that waits in the same words does not repeat them."""
        begun = self.at.last if self.at.status == OK else self.at.began
        return self.now - begun > LIMITS[self.pending]

    @property
    def asked(self) -> int:
        """How often it has asked for an address."""
        dhcp = self.timeline.stage("dhcp")
        return dhcp.count if dhcp else 0

    @property
    def rate(self) -> float:
        """Bytes per second that it loads with; 0 if that is not known yet."""
        return self.at.size / self.at.seconds if self.at.seconds > 0 and self.at.size >= ENOUGH else 0.0

    @property
    def stopped(self) -> bool:
        """Whether it has loaded nothing for longer than one file may take."""
        return self.quiet > STOPPED.get(self.board.netboot, PATIENT)

    def lacks(self, ending: str = "") -> bool:
        """Tell whether it stays after a file that is not there, with this ending, and that it needs."""
        name = self.at.missing.rpartition("/")[2].lower()
        stays = self.stopped or self.asked >= ROUNDS
        return bool(name) and stays and name.endswith(ending)

    def words(self) -> dict[str, str]:
        """Return what stands for the {words} of causes and remedies."""
        return {
            "node": self.known.hostname,
            "address": self.known.address,
            "board": self.board.title,
            "count": str(self.asked),
            "files": str(self.at.files),
            "missing": self.at.missing,
            "rate": f"{self.rate / 1000:.0f}",
            "detail": self.at.detail or "it has not said why",
            "before": self.at.stage,
            "minutes": f"{self.quiet / 60:.0f}",
        }


@dataclass(frozen=True)
class Rule:
    """One way to be stuck.

    Attributes:
        at: the stage that does not go on, or is due and does not come.
        seen: by what it is recognised, for people.
        cause: the most likely one; its {words} are those of `Case.words`.
        remedy: what to do, with the same {words}.
        applies: whether it is this one, of a boot that is at that stage.
        boots: netboot generations (`boards.NETBOOT`) it is for; any, if there are none.
    """

    at: str
    seen: str
    cause: str
    remedy: str
    applies: Callable[[Case], bool]
    boots: tuple[str, ...] = ()
