"""What a board loads once it knows its server: the files of one stage, under the config.txt that came.

Sources: Raspberry Pi documentation, "Boot flow", "TFTP_PREFIX", and config_txt; see `models` and `named`.
"""

from __future__ import annotations

import posixpath
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.image import firmware
from pibake.probe import tftp
from pibake.probe.models import Need
from pibake.probe.named import names, overlay_folders, overlays
from pibake.probe.tftp import NOT_FOUND, Arrived, Refused, Silence
from pibake.probe.values import Step, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address
    from pathlib import Path

    from pibake.probe.models import Stage

BLOCKS = 0xFFFF
INCLUDES = 10
NOTES = {
    "bootcode.bin": "it must stand in the TFTP root, or in the folder served for this MAC address: the board asks for it without a prefix",
    "bootsig.bin": "the boot ROM takes it for a signature of bootcode.bin; remove it",
    "recovery.elf": "it would be started in place of the firmware; remove it",
    "recover4.elf": "it would be started in place of the firmware; remove it",
    "start.elf": "it is the board's firmware, and nothing goes on without",
    "start4.elf": "it is the board's firmware, and nothing goes on without",
    "fixup.dat": "it belongs to start.elf, which sees less memory without",
    "fixup4.dat": "it belongs to start4.elf, which sees less memory without",
    "config.txt": "the firmware does not know what to load without",
    "{kernel}": "there is nothing to start without a kernel",
    "{initramfs}": "config.txt names it, and the root file system is not found without",
    "{cmdline}": "the kernel is not told its root file system without",
    "{device_tree}": "the kernel does not know the board without a device tree",
    "{overlays}": "config.txt names it; the board boots without what it is for",
    "{boot_file}": "it is what DHCP told this machine to load",
}
"""File -> why it matters that it is missing, or there."""
SILENT = "the TFTP server does not answer; is it running, and is UDP let through to it and back?"


@dataclass
class Loading:
    """One board loading the files of one stage.

    Attributes:
        stage: what it loads, and how.
        board: its name in `boards.BOARDS`.
        server: whom it asks.
        folder: where what came is kept; None to keep nothing.
        tell: takes each step.
        prefix: what its paths begin with: `1234abcd/`, or nothing.
        boot_file: what UEFI was told to load.
        config: its config.txt, includes and all.
        cmdline: the first line of its command line.
        saved: name of a file, without the prefix -> where it was saved.
        stopped: whether a real board would have stopped by now.
        silent: whether the server has stopped answering.
    """

    stage: Stage
    board: str
    server: IPv4Address
    folder: Path | None
    tell: Callable[[Step], None]
    prefix: str = ""
    boot_file: str = ""
    config: str = ""
    cmdline: str = ""
    saved: dict[str, Path] = field(default_factory=dict)
    stopped: bool = False
    silent: bool = False

    def run(self) -> bool:
        """Load everything, past what is missing so that all of it is told of; return whether a real board goes on."""
        if self.stage.markers and not any(self._there(marker) for marker in self.stage.markers):
            missing = " or ".join(self.stage.markers)
            note = f"without {missing} in {self.prefix} a board looks for everything in the root"
            self._note(Step(self.prefix, "given up", note=note))
            self.prefix = ""
        for what, need in self.stage.files:
            if not self.silent:
                self._load(what, need)
        return not self.stopped

    def path(self, what: str) -> Path | None:
        """Return where a file was saved; None if it did not come, or nothing is saved."""
        found = names(what, self.config, self.board, self.boot_file)
        return next((self.saved[name] for name in found if name in self.saved), None)

    def _load(self, what: str, need: Need) -> None:
        """Load what one line of `Stage.files` stands for."""
        if need is Need.ABSENT:
            self._there(what, NOTES[what])
        elif what == "{overlays}":
            self._load_overlays(need)
        elif paths := names(what, self.config, self.board, self.boot_file):
            data = self._fetch(paths, need, NOTES.get(what, "")).decode("utf-8", "replace")
            if what == "config.txt":
                self.config = self._included(data)
            elif what == "{cmdline}":
                self.cmdline = data.partition("\n")[0].strip()

    def _load_overlays(self, need: Need) -> None:
        wanted = overlays(self.config, self.board)
        own, shared = overlay_folders(self.config, self.board)
        folder = own if wanted and own != shared and self._there(own + "README") else shared
        for overlay in wanted:
            self._fetch((folder + overlay,), need, NOTES["{overlays}"])

    def _included(self, config: str) -> str:
        """Return config.txt with the files it includes in place, which are fetched."""
        files: dict[str, str] = {}
        queue = list(firmware.includes(config))
        while queue and len(files) < INCLUDES:
            name = queue.pop(0)
            if name not in files:
                data = self._fetch((name,), Need.EXPECTED, "config.txt includes it")
                files[name] = data.decode("utf-8", "replace")
                queue += firmware.includes(files[name])
        return firmware.inline(config, files)

    def _there(self, name: str, objection: str = "") -> bool:
        """Ask whether a file is there, as a board does that gives up once it knows; `objection` is why it should not be."""
        transfer, path, began = self.stage.transfer, self.prefix + name, time.monotonic()
        answer = tftp.probe(self.server, path, transfer.options, transfer.abort)
        seconds = time.monotonic() - began
        if isinstance(answer, Arrived):
            verdict = Verdict.MISSING if objection else Verdict.OK
            self._note(Step(path, "there", verdict, objection, seconds=seconds))
            return True
        self._lacking(path, answer, (Verdict.OK, ""), seconds)
        return False

    def _fetch(self, choices: tuple[str, ...], need: Need, note: str) -> bytes:
        """Load the first of these files that is there; empty if none is."""
        transfer = self.stage.transfer
        verdicts = {Need.REQUIRED: Verdict.MISSING, Need.EXPECTED: Verdict.WARNING}
        for name in choices:
            path, began = self.prefix + name, time.monotonic()
            if transfer.probe:
                tftp.probe(self.server, path, transfer.probe, transfer.abort)
            answer = tftp.read(self.server, path, transfer.options)
            seconds = time.monotonic() - began
            if isinstance(answer, Arrived):
                size = len(answer.data)
                self._note(Step(path, f"{size} bytes", *self._doubts(size, seconds), size, seconds))
                self._save(name, path, answer.data)
                return answer.data
            verdict = verdicts.get(need, Verdict.OK) if name == choices[-1] else Verdict.OK
            self._lacking(path, answer, (verdict, note if verdict is not Verdict.OK else ""), seconds)
        return b""

    def _lacking(
        self, path: str, answer: Refused | Silence, judged: tuple[Verdict, str], seconds: float
    ) -> None:
        """Tell of a file that did not come."""
        if isinstance(answer, Silence):
            self.silent = True
            self._note(Step(path, answer.text, Verdict.MISSING, SILENT, seconds=seconds))
        else:
            got = "not there" if answer.code == NOT_FOUND else f"error {answer.code}: {answer.text}"
            self._note(Step(path, got, *judged, seconds=seconds))

    def _note(self, step: Step) -> None:
        self.stopped |= step.verdict is Verdict.MISSING
        self.tell(step)

    def _doubts(self, size: int, seconds: float) -> tuple[Verdict, str]:
        """Return what some boards would not like about a file that came."""
        transfer = self.stage.transfer
        if seconds > transfer.limit:
            return Verdict.MISSING, f"too slow: a board gives up a file after {transfer.limit:g} s"
        over = [note for block, note in transfer.blocks if size >= block * BLOCKS]
        return (Verdict.WARNING, over[0]) if over else (Verdict.OK, "")

    def _save(self, name: str, path: str, data: bytes) -> None:
        """Keep a file under the path that was asked for, and never outside of the folder, whatever config.txt says."""
        if self.folder:
            target = self.folder / posixpath.normpath("/" + path).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            self.saved[name] = target
