"""`pibake boot`."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pibake.errors import BootFailed, PibakeError

if TYPE_CHECKING:
    from pibake import vm
    from pibake.health import Check
    from pibake.progress import Progress, Task
    from pibake.vm import Machine

OUT = Path("images/out")
STARTS = 3
"""How often a machine may be switched on before its stalling is an error."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f]")
MILESTONES = (
    (r"Booting Linux", 0.02, "kernel"),
    (r"Run \S+/init as init process", 0.10, "initramfs"),
    (r"systemd\[1\]: Detected architecture", 0.20, "systemd"),
    (r"running 'init-local'", 0.35, "cloud-init: disks and network"),
    (r"running 'init'", 0.55, "cloud-init: users and keys"),
    (r"running 'modules:config'", 0.75, "cloud-init: configuration"),
    (r"running 'modules:final'", 0.85, "cloud-init: final stage"),
    (r"Cloud-init .* finished", 0.93, "systemd: last units"),
)
"""What the console says on the way up, how far that is under emulation, and what to call it."""


@click.command(
    epilog="""\b
Examples:
  pibake boot node3
  pibake boot node3 --console
  pibake boot node3 --keep            then: ssh -p PORT ops@127.0.0.1
  pibake boot node3 --disk node3.qcow2    a disk that keeps its state, like a card
  pibake boot node3 --tap tap0        on a network of yours, to join a cluster there"""
)
@click.argument("node", metavar="NODE|IMAGE")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=OUT, show_default=True, metavar="FOLDER",
              help="Where `pibake build` put the images.")  # fmt: skip
@click.option(
    "--keep", is_flag=True, help="Leave it running with SSH forwarded, until Ctrl-C or its own power-off."
)
@click.option("--disk", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Boot from this qcow2 disk and keep it: made from the image if missing, else given its seed.")  # fmt: skip
@click.option("--console", "show_console", is_flag=True, help="Show the console as it comes.")
@click.option(
    "--log", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Save the console there."
)
@click.option(
    "--memory",
    type=click.IntRange(512),
    default=2048,
    show_default=True,
    metavar="MIB",
    help="Memory in MiB.",
)
@click.option("--timeout", type=click.FloatRange(1), default=600, show_default=True, metavar="SECONDS",
              help="How long the boot may take.")  # fmt: skip
@click.option("--tap", default="", metavar="DEVICE",
              help="Put the node on this tap device, and so on a network with others, instead of by itself.")  # fmt: skip
@click.option("--wait", "patience", type=click.FloatRange(0), metavar="SECONDS",
              help="How long it may wait for the API server  [default: 10, or 300 with --tap]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the checks and the node's whole report as JSON.")
@click.pass_obj
def boot(
    progress: Progress,
    /,
    *,
    node: str,
    out: Path,
    keep: bool,
    disk: Path | None,
    show_console: bool,
    log: Path | None,
    memory: int,
    timeout: float,
    tap: str,
    patience: float | None,
    as_json: bool,
) -> None:
    """Boot a card's image in QEMU and report its health.

    The very image is booted, from a copy-on-write disk, with its own kernel, initramfs and command line. The node
    itself reports what it found; the exit status is 0 only if all of it is as the manifest says.
    """
    from pibake import health, vm
    from pibake.errors import about
    from pibake.progress import Silent

    image, manifest = _find(node, out)
    with about(image.name), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pibake-boot-")))
        watch = _Watcher(show=show_console)
        request = vm.Boot(
            image, manifest, disk=disk, memory=memory, timeout=timeout, tap=tap,
            patience=patience if patience is not None else 300.0 if tap else 10.0,
            on_console=watch.line, on_progress=watch.note,
        )  # fmt: skip
        if log:
            stack.callback(_save, folder / "console.log", log)
        bar = Silent() if show_console else progress
        with bar.task(f"boot {image.name}", total=1.0, unit="%") as task:
            watch.task = task
            machine, report = _boot(request, folder, stack)
            watch.task = None
        checks = health.judge(report, manifest, disk_bytes=machine.disk_bytes)
        with suppress(KeyboardInterrupt) if keep else nullcontext():
            _show(checks, report, machine, as_json=as_json)
            if keep:
                _hold(machine, manifest)
        if disk and machine.child.poll() is None:
            machine.power_off()
        if wrong := [check for check in checks if not check.ok]:
            raise BootFailed(f"not healthy: {', '.join(check.name for check in wrong)}")


def _boot(request: vm.Boot, folder: Path, stack: ExitStack) -> tuple[Machine, dict[str, Any]]:
    """Boot until there is a report; a machine that stalls is switched off and on, as its watchdog would do."""
    from pibake import vm

    for attempt in range(1, STARTS + 1):
        with ExitStack() as inner:
            machine = inner.enter_context(vm.booted(request, folder))
            machine.starts = attempt
            try:
                report = machine.wait_for_report(request)
            except vm.StalledError:
                if attempt == STARTS:
                    raise
                click.echo("the emulated machine stood still for too long: starting it again", err=True)
                continue
            stack.push(inner.pop_all())
            return machine, report
    raise AssertionError("the loop returns or raises")


class _Watcher:
    """Turns what the machine says into progress; shows the console where that is asked for."""

    def __init__(self, *, show: bool) -> None:
        self.show = show
        self.task: Task | None = None
        self.share = 0.0

    def line(self, line: str) -> None:
        if self.show:
            click.echo(ESCAPES.sub("", line), err=True)
        for pattern, share, name in MILESTONES:
            if share > self.share and re.search(pattern, line):
                self._update(share, name)

    def note(self, text: str) -> None:
        self._update(self.share, text)

    def _update(self, share: float, text: str) -> None:
        self.share = share
        if self.task:
            self.task.update(share, note=text)


def _find(node: str, out: Path) -> tuple[Path, dict[str, Any]]:
    """Return the image that is meant, by node name or path, and its manifest."""
    image = Path(node) if node.endswith(".img") else out / f"{node.partition('.')[0]}.img"
    manifest = image.with_suffix(".manifest.json")
    for path in (image, manifest):
        if not path.exists():
            packed = next(iter(image.parent.glob(f"{image.name}.*[tz]")), None)
            hint = f"unpack {packed} first" if packed else f"pibake build --hostname {image.stem}"
            raise PibakeError(f"there is no {path}", hint)
    return image, json.loads(manifest.read_text("utf-8"))


def _show(checks: list[Check], report: dict[str, Any], machine: Machine, *, as_json: bool) -> None:
    if as_json:
        rows = [{"name": c.name, "ok": c.ok, "seen": c.seen, "problem": c.problem} for c in checks]
        facts = {"healthy": all(c.ok for c in checks), "seconds": round(machine.seconds, 1),
                 "accelerator": machine.accelerator, "ssh_port": machine.ssh_port, "starts": machine.starts}  # fmt: skip
        click.echo(json.dumps({**facts, "checks": rows, "report": report}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pibake import health

    table = Table(
        "", "check", "seen", title=f"{report['os']}, Linux {report['kernel']}", title_justify="left"
    )
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("BAD", "bold red")
        seen = Text(check.seen)
        if check.problem:
            seen.append(f"\n{check.problem}", "red")
        table.add_row(mark, check.name, seen)
    table.add_section()
    health.timings(report, lambda name, value: table.add_row("", name, Text(value, "dim")))
    table.add_row(
        "", "report", Text(f"{machine.seconds:.1f} s after power-on ({machine.accelerator})", "dim")
    )
    Console().print(table)


def _hold(machine: Machine, manifest: dict[str, Any]) -> None:
    """Leave the machine running until it powers off or Ctrl-C is pressed."""
    user = manifest["node"]["users"][0]["name"]
    click.echo(f"running: ssh -p {machine.ssh_port} {user}@127.0.0.1    (Ctrl-C powers it off)", err=True)
    machine.child.wait()


def _save(console: Path, target: Path) -> None:
    if console.exists():
        shutil.copyfile(console, target)
