"""`pibake serve`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake.cli.common import config_option

if TYPE_CHECKING:
    from pibake.progress import Progress
    from pibake.serve.service import Service


@click.command(
    epilog="""\b
Examples:
  pibake serve --check             is everything there that serving needs?
  sudo pibake serve                serve until Ctrl-C; boards can be plugged in
  sudo pibake serve --renew node3  start node3 anew, on the newest golden image
  sudo pibake serve --install-unit && sudo systemctl enable --now pibake-serve"""
)
@config_option
@click.option(
    "--interface",
    metavar="NAME",
    default="",
    help="The interface that the boards are behind  [default: the one in the subnet]",
)
@click.option("--check", is_flag=True, help="Check everything, start nothing.")
@click.option(
    "--renew", "renew", multiple=True, metavar="NODE",
    help="Remove all a node has on the server, and start it anew on the newest golden image; may be given again.",
)  # fmt: skip
@click.option(
    "--install-unit", is_flag=True, help="Write a systemd unit that serves this cluster, and do nothing else."
)
@click.option(
    "--http-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Where the status and boot images are served  [default: 8069]",
)
@click.option(
    "--nfs-port", type=click.IntRange(1, 65535), metavar="PORT", help="Where NFS is served  [default: 2049]"
)
@click.option(
    "--nbd-port", type=click.IntRange(1, 65535), metavar="PORT", help="Where NBD is served  [default: 10809]"
)
@click.pass_obj
def serve(
    progress: Progress,
    /,
    *,
    config: Path | None,
    interface: str,
    check: bool,
    renew: tuple[str, ...],
    install_unit: bool,
    **ports: int | None,
) -> None:
    """Boot the cluster's boards from the wire.

    Serves every node with a `mac` or `serial` over DHCP, TFTP, NFS and NBD, from the same plan, golden images and secrets
    as its card. A changed cluster.yaml is followed; nodes that run go on.
    """
    from pibake.cache import Cache
    from pibake.cli.config import locate
    from pibake.netboot.values import Ports
    from pibake.serve.service import Service

    given = {name.removesuffix("_port"): port for name, port in ports.items() if port}
    source = locate(config)

    service = Service(source, Cache(), progress, interface=interface, ports=Ports(**given), renew=renew)
    if install_unit:
        _install(service)
    elif check:
        for line in service.check():
            click.echo(line)
    else:
        _serve(service)


def _install(service: Service) -> None:
    from pibake.serve import unit
    from pibake.vault import FOLDER

    source = service.source.resolve()
    command = [str(Path(sys.executable).with_name("pibake")), "serve", "--config", str(source)]
    writable = (service.folders.root, source.parent / FOLDER, service.cache.root)
    for folder in writable:  # the unit may write to what is there when it starts
        folder.mkdir(0o700, parents=True, exist_ok=True)
    unit.install(unit.render(command, source.parent, writable))
    click.echo(f"{unit.PATH} serves {source}; `systemctl enable --now {unit.PATH.stem}` starts it")


def _serve(service: Service) -> None:
    """Serve until a signal says to stop; one that comes while things are got ready ends that."""
    with service.serving() as running:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.stop.set())
        names = ", ".join(state.name for state in running.supervisor.states())
        click.echo(f"serving with {names}; Ctrl-C stops")
        service.follow(running)
    click.echo("stopped")
