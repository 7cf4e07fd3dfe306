"""The ways in which a boot does not go on, each with its most likely cause and what to do.

Sources: Raspberry Pi documentation, "Network booting" (bugs of the 3B's boot ROM) and "Raspberry Pi bootloader
configuration"; raspberrypi/firmware issues 934, 991 and 1120; raspberrypi/rpi-eeprom issues 375, 480 and 720; release notes of
firmware-2711, 2022-10-03 (blocks of 1468 bytes instead of 1024, of which there are 65535 in a file).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.rack.case import ROUNDS, SILENT, SLOW, UNANSWERED, Rule
from pibake.rack.values import OK, OWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.rack.case import Case


def _unanswered(case: Case) -> bool:
    return case.asked >= UNANSWERED


def _silent(case: Case) -> bool:
    return case.quiet > SILENT


def _stopped(case: Case) -> bool:
    return case.stopped and case.at.files > 0


def _nothing_said(case: Case) -> bool:
    return case.at.status == OK and case.late


def _says(*words: str) -> Callable[[Case], bool]:
    """Return a condition: a stage of the node's own does not go on, and one of these words is in what it says."""
    return lambda case: _wrong(case) and any(word in case.at.detail.lower() for word in words)


def _wrong(case: Case) -> bool:
    return case.at.status != OK and (case.failed or case.late)


NO_ADDRESS = "asked {count} times, and loads nothing"
STP = "switch off spanning tree on its port, or let the port forward at once (portfast)"
PROBE = "`pibake probe` plays the board and says what is missing"

RULES = (
    Rule(
        "dhcp", "asks 3 times or more, loads nothing: Pi 2 and 3B",
        f"{NO_ADDRESS}: the boot ROM got no address it takes within its 25 s, because a port with spanning tree is blocked"
        " for 30 s, a router's answer comes first, or the router gives no address beside `dhcp: proxy`",
        f"{STP}; look whether the router has addresses left; then switch the board off and on. A card with"
        " nothing but bootcode.bin asks for as long as it takes (docs/netboot-firmware.md)",
        _unanswered, ("rom-3b",),
    ),
    Rule(
        "dhcp", "asks 3 times or more, loads nothing: 3B+",
        f"{NO_ADDRESS}: the boot ROM got no address it takes within its 25 s: the router gives none beside `dhcp: proxy`,"
        " another server's option 43 was first, or a port with spanning tree is blocked for 30 s",
        f"{STP}; look whether the router has addresses left, and switch off another boot server; {PROBE}",
        _unanswered, ("rom-3b+",),
    ),
    Rule(
        "dhcp", "asks 3 times or more, loads nothing: Pi 4, 5 and their kin",
        f"{NO_ADDRESS}: the EEPROM needs an address and option 43; the router gives no address beside `dhcp: proxy`, or"
        " another server answers first. TFTP_IP in its EEPROM would send it to another server, too",
        f"look whether the router has addresses left (or `netboot: {{{{dhcp: server}}}}`), and switch off another boot server; {PROBE};"
        " a card of `pibake eeprom-card` sets its EEPROM anew",
        _unanswered, ("eeprom-2711", "eeprom-2712"),
    ),
    Rule(
        "dhcp", "asks 3 times or more, loads nothing: UEFI",
        f"{NO_ADDRESS}: UEFI takes no offer without an address; the router gives none beside `dhcp: proxy`, or port 4011 of"
        " this server is closed to it",
        f"look whether the router has addresses left, and let UDP 67, 69 and 4011 through this server's firewall; {PROBE}",
        _unanswered, ("uefi",),
    ),
    Rule(
        "dhcp", "asked, loads nothing, and has not asked again for a minute",
        "it asked for an address and fell silent: it was switched off, boots from a card or disk of its own, or gave up",
        "switch it off and on, without a card in it",
        _silent,
    ),
    Rule(
        "tftp", "a device tree is asked for and is not there",
        "there is no {missing}: the board is no {board}, as cluster.yaml says, or its base is older than the board",
        "`pibake boards` says what it is: put that into cluster.yaml as `board:` of {node}, or choose a newer base",
        lambda case: case.lacks(".dtb"),
    ),
    Rule(
        "tftp", "firmware, configuration or kernel is asked for and is not there",
        "there is no {missing}: the base has none for this board, or the board looks in another folder (TFTP_PREFIX) than"
        " its serial's or MAC address'",
        "compare its serial with cluster.yaml's (`pibake boards`); `pibake serve --check` says what the base lacks",
        lambda case: case.lacks(),
    ),
    Rule(
        "tftp", "loads, and asks for an address again and again",
        "it has asked for an address {count} times and starts over, with {files} files loaded: it resets while it loads,"
        " or gives up one file after 30 s",
        "try another power supply, then another cable and port; an EEPROM from before October 2022 breaks off above 64 MiB",
        lambda case: case.asked >= ROUNDS,
    ),
    Rule(
        "tftp", "less than 200 kB/s",
        "it loads with {rate} kB/s: a cable or port at 10 Mbit/s, or one that loses packets",
        "try another cable and another port of the switch; look at the port's speed and errors",
        lambda case: 0 < case.rate < SLOW,
    ),
    Rule(
        "tftp", "asks for files and gets none",
        "it asks for files and none arrives: TFTP's answers come from a port above 1023, which a firewall drops, or the"
        " board takes another machine for the server",
        f"let UDP between this server and {{address}} through; {PROBE}",
        lambda case: case.stopped and not case.at.files,
    ),
    Rule(
        "tftp", "has loaded files, and nothing for 2 min: Pi 2, 3B and 3B+",
        "{files} files were loaded, and no kernel has asked for its root: it does not start (power supply, a `board:` that is"
        " not what it is, or a kernel for another word size), or the boot ROM hangs",
        "switch it off and on; try another power supply; compare `pibake boards` with cluster.yaml; see what a screen says",
        _stopped, ("rom-3b", "rom-3b+"),
    ),
    Rule(
        "tftp", "has loaded files, and nothing for 40 s: Pi 4, 400, CM4",
        "{files} files were loaded, and no kernel has asked for its root: it does not start (power supply, a `board:` that is"
        " not what it is, `arm_64bit=0`), or an EEPROM from before October 2022 cut a file above 64 MiB",
        "update the EEPROM (`pibake eeprom-card`); try another power supply; compare `pibake boards` with cluster.yaml",
        _stopped, ("eeprom-2711",),
    ),
    Rule(
        "tftp", "has loaded files, and nothing for 40 s: Pi 5, 500, CM5",
        "{files} files were loaded, and no kernel has asked for its root: it does not start (a power supply below 5 A, a"
        " `board:` that is not what it is), or an EEPROM from before September 2025 cut a file above 92 MB",
        "update the EEPROM (`pibake eeprom-card`); try another power supply; compare `pibake boards` with cluster.yaml",
        _stopped, ("eeprom-2712",),
    ),
    Rule(
        "tftp", "has loaded files, and nothing for 2 min: UEFI",
        "{files} files were loaded, and no kernel has asked for its root: Secure Boot refuses it, or GRUB finds no"
        " configuration for this machine's MAC address",
        "see what its screen or serial console says; compare `pibake boards` with the `mac` of {node} in cluster.yaml",
        _stopped, ("uefi",),
    ),
    Rule(
        "root", "the initramfs says what is wrong",
        "{detail}",
        "mend that, then switch the board off and on; `pibake serve` and `pibake status` say whether the engines run",
        lambda case: case.failed,
    ),
    Rule(
        "root", "root: nfs, a kernel runs, and no root file system for 90 s",
        "the kernel runs and has not mounted its root: NFS refused it, since it came from another address than {address} or"
        " another machine has that one, or the initramfs lacks its port's driver",
        "look with `arping` whether two machines have {address}; let TCP 2049 through this server's firewall; see the console",
        lambda case: case.late and case.known.root == "nfs",
    ),
    Rule(
        "root", "root: nbd, a kernel runs, and no root file system for 90 s",
        "the kernel runs and has not mounted its root: NBD refused it, since it came from another address than {address} or"
        " another machine has that one, or the initramfs lacks its port's driver",
        "look with `arping` whether two machines have {address}; let TCP 10809 through this server's firewall; see the console",
        lambda case: case.late and case.known.root == "nbd",
    ),
    Rule(
        "cloud-init", "cloud-init says that it failed",
        "{detail}",
        "log in with `pibake ssh {node}` if that is let in, and see `cloud-init status --long`; `pibake plan` shows what it was given",
        lambda case: case.failed,
    ),
    Rule(
        "cloud-init", "a root file system, and no cloud-init for 5 min",
        "its root file system is there, and cloud-init has not said that it is through: it waits for a network or a disk, or"
        " the node stopped",
        "see what its console says; `state:` on a disk of the board's needs that disk",
        lambda case: case.late,
    ),
    Rule(
        "network", "pibake-join waits for the address for a minute",
        "{detail}",
        "compare its MAC address with `mac` in cluster.yaml, and look whether another machine has {address}",
        _wrong,
    ),
    Rule(
        "clock", "the clock is before the node's certificates for 2 min",
        "{detail}",
        "let UDP 123 to a time server out, or name one that is reachable: boards have no clock of their own",
        _wrong,
    ),
    Rule(
        "endpoint", "the API server has another CA",
        "{detail}",
        "`pibake secrets list` has the fingerprints; a node of another cluster has the endpoint's address, or"
        " `pibake serve --renew {node}` gives this one the new CA",
        _says("another ca", "another cluster"),
    ),
    Rule(
        "endpoint", "no API server answers for 10 min",
        "{detail}",
        "see whether the first server is up (`pibake status`), and let TCP 6443 to it through",
        _wrong,
    ),
    Rule(
        "install", "a data disk is missing, or is neither empty nor its own",
        "{detail}",
        "do what it says: it is tried again by itself, within a minute; docs/disks.md has more",
        _says("data disk"),
    ),
    Rule(
        "install", "what it needs is not installed, or not in 15 min",
        "{detail}",
        "mend what it names, then `pibake serve --renew {node}` if it is in the image; `pibake ssh {node} sudo journalctl -u pibake-install`",
        _wrong,
    ),
    Rule(
        "join", "its token is past its time",
        "{detail}",
        "`pibake secrets rotate tokens --apply` (with k3s, it says what to run); then switch the board off and on, or with"
        " `root: nbd` `pibake serve --renew {node}`",
        _says("token"),
    ),
    Rule(
        "join", "it is refused, or does not join in 10 min",
        "{detail}",
        "`pibake ssh {node} sudo journalctl -u pibake-join -u k3s -u k3s-agent -u kubelet`; one that was a member before:"
        " `pibake forget {node} --apply`",
        _wrong,
    ),
    Rule(
        "ready", "the Node is not Ready for 5 min",
        "{detail}",
        "`kubectl describe node {node}`; without a network plugin (`cni:`) no Node is Ready",
        _wrong,
    ),
    Rule(
        "scrubbed", "cloud-init does not end for 5 min",
        "{detail}",
        "`pibake ssh {node} cloud-init status --long`",
        _wrong,
    ),
    *(
        Rule(
            stage, "the stage before is done, and the node says nothing of this one",
            "nothing was heard since {before} was done, {minutes} min ago: the node stopped, lost its network, or is at it still",
            "look at its power and its port's light, then at its console; `pibake ssh {node}` if it answers",
            _nothing_said,
        )
        for stage in OWN
    ),
)  # fmt: skip
"""In the order in which they are tried."""
