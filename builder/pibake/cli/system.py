"""How a system is shown that an image holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pibake.system import System

FOUND = {
    "label": "by its label",
    "link": "by links in /var/lib/cloud/seed",
    "seedfrom": "by the setting seedfrom",
}


def show(name: str, system: System) -> None:
    """Print as a table what the image `name` says of its system."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cloud = system.cloud_init
    rows = {
        "System": f"{system.release.title or system.release.id} ({system.arch}, {system.init})",
        "Boot partition": f"at /{system.boot}",
        "Command lines": ", ".join(system.cmdlines),
        "Made by": f"cloud-init {cloud.version}" if cloud else "files and a first-boot unit",
        "Seed": f"{', '.join(cloud.files)} on the boot partition, found {FOUND[cloud.found_by]}"
        if cloud
        else "",
        "cloud-init renders": ", ".join(cloud.renders) or "nothing" if cloud else "",
        "Network": system.network,
        "Root grows by": system.growth,
        "Python": system.python or "none",
        "Kernels": "\n".join(
            f"{k.file}  {k.release or 'unknown release'}  {k.page_kib}K pages" for k in system.kernels
        ),
        "Asks at first boot": ", ".join(system.wizard) or "nothing",
        "Customised": system.customised or "no",
    }
    table = Table(title=name, title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for heading, value in rows.items():
        if value:
            table.add_row(heading, Text(plain(value)))
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a pipe has no edge to wrap at
    console.print(table)


def plain(text: str) -> str:
    """Return a text without what would steer the terminal: it may be from an image that nobody vouches for."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
