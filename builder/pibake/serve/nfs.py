"""NFS-Ganesha as an engine: its configuration on disk, and the numbers its exports keep."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from pibake import fsys
from pibake.errors import PibakeError
from pibake.netboot import ganesha
from pibake.serve.engine import Engine, Listens

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pibake.netboot.ganesha import Export
    from pibake.netboot.values import Site

CAPABILITIES = ("dac_read_search", "setgid", "setuid")
"""To open a file by its handle (open_by_handle_at(2)), and to be who a node's process says it is (setfsuid(2))."""


def engine(site: Site, exports: Sequence[Export], folder: Path, handles: Path) -> Engine:
    """Write ganesha.conf into a folder of this server's own, and return the engine that serves it.

    It asks at the Unix socket `handles` whether it may open what a client has a handle of.
    A change of the exports is read while it runs (SIGHUP): nodes that have others mounted do not notice.
    """
    recovery = folder / "recovery"
    recovery.mkdir(parents=True, exist_ok=True)
    text = ganesha.render(site, exports, recovery)
    configuration = folder / "ganesha.conf"
    fsys.write(configuration, text)
    argv = ("ganesha.nfsd", "-F", "-f", str(configuration), "-p", str(folder / "ganesha.pid"),
            "-L", "STDERR", "-N", "NIV_WARN")  # fmt: skip
    return Engine(
        "ganesha.nfsd",
        argv,
        Listens("tcp", site.ports.nfs),
        CAPABILITIES,
        reload=signal.SIGHUP,
        environment={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/dev/null"},  # nobody else is to give it orders
        configuration=text,
        handles=handles,
    )


def numbers(file: Path, names: Iterable[str]) -> dict[str, int]:
    """Return the number of each export by its pseudo path: those noted in `file`, and new ones noted there now.

    A number is never given to another path, or a handle a node still holds would be one of another export.

    Raises:
        PibakeError: all are taken.
    """
    known = {name: int(number) for name, number in fsys.load(file).items()}
    new = [name for name in sorted(set(names)) if name not in known]
    first = max(known.values(), default=0) + 1
    if first + len(new) > ganesha.LAST + 1:
        raise PibakeError(
            f"{file} has given away all {ganesha.LAST} numbers of exports",
            "switch all nodes off, remove the file, and start again",
        )
    known |= {name: first + index for index, name in enumerate(new)}
    if new:
        fsys.store(file, known)
    return known
