"""Hooks: programs of the user's that make files for golden images, run on this host once for a base.

    hooks/<name>@<hex>/root/          what the program left in PIBAKE_ROOT
    hooks/<name>@<hex>/record.json    the modes, digests and links of that

What identifies the result is the program, the base and its architecture. What a program downloads is not known here.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pibake import space
from pibake.cache import made
from pibake.errors import CommandFailed, PibakeError
from pibake.fsys import delete, load, store
from pibake.image.golden import Payload, PayloadFile, PayloadFolder
from pibake.run import run

if TYPE_CHECKING:
    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.plan import Hook
    from pibake.progress import Progress

FORMAT = 1
"""Raised when the code changes what comes of the same program: part of every key."""
HINT = "docs/overlays.md says what a hook is given"


def obtain(hook: Hook, base: Base, arch: str, cache: Cache, progress: Progress) -> Payload:
    """Return what a hook makes for a base, from the cache or by running it.

    Args:
        hook: the program.
        base: what its files go into.
        arch: Debian's name of the base's architecture.
        cache: where results are kept.
        progress: where to show that it runs.

    Raises:
        CommandFailed: the program failed; nothing of it is kept.
        PibakeError: it made nothing, or what a card cannot hold, or the disk is full.
    """
    asked = f"{FORMAT} {cache.sha256(hook.path)} {base.sha256} {base.name} {arch}"
    key = f"{hook.name}@{hashlib.sha256(asked.encode()).hexdigest()[:32]}"
    folder = made(cache.root / "hooks") / key
    with cache.lock(f"hook-{key}", progress):
        if found := _kept(folder, cache):
            return found
        delete(folder)
        work = cache.partial / f"hook-{key}.work"
        delete(work)
        try:
            (work / "kept/root").mkdir(parents=True)
            (work / "scratch").mkdir()
            with (
                progress.task(f"hook {hook.name} for {base.name}", unit="%") as task,
                space.room(work, "run a hook"),
            ):
                task.update(0, note="running")
                _run(hook, base, arch, work)
                made_of = _Made(hook, work / "kept/root", cache)
                made_of.read()
            facts = {"name": hook.name, "base": base.name, "obtained": int(time.time())}
            store(work / "kept/record.json", {**facts, **made_of.record()})
            (work / "kept").replace(folder)
        finally:
            delete(work)
        return _payload(folder)


def _run(hook: Hook, base: Base, arch: str, work: Path) -> None:
    scratch = work / "scratch"
    env = {
        "PIBAKE_ROOT": str(work / "kept/root"),
        "PIBAKE_ARCH": arch,
        "PIBAKE_BASE": base.name,
        "TMPDIR": str(scratch),
    }
    done = run([hook.path], why=f"run the hook {hook.name}", cwd=scratch, env=env, check=False)
    if done.code:
        raise CommandFailed(
            [str(hook.path)],
            done.code,
            f"{done.stdout}\n{done.stderr}",
            why=f"run the hook {hook.name}",
            hint=HINT,
        )


@dataclass
class _Made:
    """What a hook left in its folder, by path."""

    hook: Hook
    root: Path
    cache: Cache
    files: dict[str, list[Any]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def read(self) -> None:
        """Note everything; what its owner may not read gets readable here, and its mode is in the record."""
        for where, folders, names in os.walk(self.root):
            for name in sorted([*folders, *names]):
                self._note(Path(where, name))
        if not (self.files or self.links or self.folders):
            raise PibakeError(
                f"the hook {self.hook.name} made no files", f"it puts them into $PIBAKE_ROOT; {HINT}"
            )

    def record(self) -> dict[str, Any]:
        """Return what was noted, for `_payload`."""
        return {"files": self.files, "links": self.links, "folders": self.folders}

    def _note(self, path: Path) -> None:
        where, mode = path.relative_to(self.root).as_posix(), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            self.links[where] = str(path.readlink())
            if self.links[where].startswith(str(self.root)):
                raise PibakeError(
                    f"the hook {self.hook.name} made a link {where} that leads to {self.links[where]}",
                    "a link says where a file is on the node, without $PIBAKE_ROOT",
                )
        elif stat.S_ISDIR(mode):
            path.chmod(stat.S_IMODE(mode) | 0o700)
            self.folders[where] = stat.S_IMODE(mode)
        elif stat.S_ISREG(mode):
            path.chmod(stat.S_IMODE(mode) | 0o400)
            self.files[where] = [stat.S_IMODE(mode), self.cache.sha256(path)]
        else:
            raise PibakeError(
                f"the hook {self.hook.name} made {where}, which is neither file, folder nor link", HINT
            )


def _kept(folder: Path, cache: Cache) -> Payload | None:
    """Return the result of an earlier run, if all of it is there and unchanged."""
    if not load(folder / "record.json"):
        return None
    found = _payload(folder)
    sound = all(file.source.is_file() and cache.sha256(file.source) == file.sha256 for file in found.files)
    return found if sound else None


def _payload(folder: Path) -> Payload:
    record = load(folder / "record.json")
    files = [
        PayloadFile(path, folder / "root" / path, mode, digest)
        for path, (mode, digest) in record["files"].items()
    ]
    folders = [PayloadFolder(path, mode) for path, mode in record["folders"].items()]
    return Payload(tuple(files), links=record["links"], folders=tuple(folders))
