"""Debian bases, assembled from Debian's own packages into the layout of Ubuntu's image for the Pi.

    MBR  p1  FAT32  `system-boot`  /boot/firmware  firmware, vmlinuz, initrd.img, device trees, config.txt, cmdline.txt
         p2  ext4   `writable`     /

`assemble` is mmdebstrap with hooks (`images/debian/*.sh`). What takes a quarter of an hour under qemu-user takes
two minutes, because the arm64 tree is lent native programs while its maintainer scripts run (see `debian_tree`).

A base with another network program, without cloud-init, or of an older suite is a flavour: the same recipe, and over it
what `images/debian-flavours` says. That is a folder of its own so that standard bases do not depend on it.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from pibake import resources
from pibake.errors import ImageError
from pibake.image import debian_disk, debian_host, debian_tree
from pibake.log import log
from pibake.system import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REVISION = 1
"""Raised when the code (not the data) changes what comes out: part of the digest of every recipe."""
DATA = ("images", "debian")
FLAVOURS = ("images", "debian-flavours")
SUITES = {"trixie": "python3.13", "bookworm": "python3.11", "bullseye": "python3.9"}
"""Suites there are recipes for, newest first, and the program that is their python3."""
NETWORKS = (Network.NETPLAN, Network.IFUPDOWN, Network.NETWORK_MANAGER, Network.DHCPCD)
STANDARD = {(suite, Network.NETPLAN, True) for suite in ("trixie", "bookworm")}
"""Suite, network program and whether cloud-init is there, of the bases that `images/debian` makes by itself."""
NAMESPACE = uuid.UUID("5a1d7a3e-7b0f-4b9c-9f52-52a1d5c8f0be")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the bytes of a base, apart from the state of the mirror."""

    suite: str
    packages: tuple[str, ...]
    stand_ins: tuple[str, ...]
    """Programs that scripts call by path, as the suite's packages spell it, to be lent natively."""
    lent: tuple[str, ...]
    """Packages of such programs beside those of lent.txt."""
    merge_usr: bool
    """Whether mmdebstrap has to be told to merge /usr; since trixie base-files does."""
    components: tuple[str, ...] = ("main", "non-free-firmware")
    flavour: tuple[str, ...] = ()
    """Words that `images/debian-flavours` goes by; empty for a standard base."""
    boot_mib: int = 512
    size_mib: int = 1408

    def digest(self) -> str:
        """Return the sha256 (hex) of the recipe and of every file it uses."""
        fields, files = asdict(self), _digests(DATA)
        if self.flavour:
            files |= {f"flavour/{name}": digest for name, digest in self._flavour_digests()}
        else:
            del fields["flavour"]
        whole = json.dumps([REVISION, fields, files], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def _flavour_digests(self) -> Iterator[tuple[str, str]]:
        """Yield those of the flavours' files that this one uses; `packages` stands for its lines of packages.txt."""
        for name, digest in _digests(FLAVOURS).items():
            folder, _, rest = name.partition("/")
            if name != "packages.txt" and (folder != "root" or rest.partition("/")[0] in self.flavour):
                yield name, digest

    def identifier(self, name: str) -> uuid.UUID:
        """Return the UUID that this recipe gives to `name`: the same in every build."""
        return uuid.uuid5(NAMESPACE, f"{self.digest()} {name}")


@dataclass(frozen=True)
class Assembled:
    """What went into an image, and how long each phase took."""

    packages: dict[str, str]
    seconds: dict[str, float]


def recipe(suite: str, network: Network = Network.NETPLAN, *, cloud_init: bool = True) -> Recipe:
    """Return the recipe of a Debian suite, with one of the programs that configure the network, with cloud-init or not.

    Raises:
        ImageError: no recipe for that suite, or with that program.
    """
    if suite not in SUITES:
        *others, last = SUITES
        raise ImageError(
            f"no recipe for Debian {suite!r}", f"there are recipes for {', '.join(others)} and {last}"
        )
    if network not in NETWORKS:
        raise ImageError(
            f"no recipe for Debian {suite} with {network}", f"the network is one of: {', '.join(NETWORKS)}"
        )
    words = (suite, network.value, "cloud-init" if cloud_init else "no-cloud-init")
    merged = suite == "trixie"
    shells = ("/usr/bin/dash", "/usr/bin/bash") if merged else ("/bin/dash", "/bin/bash")
    # trixie's mkinitramfs copies modules with it
    dracut = ("/usr/lib/dracut/dracut-install",) if merged else ()
    return Recipe(
        suite=suite,
        packages=_packages(words),
        stand_ins=(*shells, "/usr/bin/perl", f"/usr/bin/{SUITES[suite]}", *dracut),
        lent=("dracut-install",) if merged else (),
        merge_usr=not merged,
        components=("main", "non-free" if suite == "bullseye" else "non-free-firmware"),
        flavour=() if (suite, network, cloud_init) in STANDARD else words,
    )


def assemble(
    recipe: Recipe,
    image: Path,
    *,
    work: Path,
    debs: Path,
    epoch: int,
    on_step: Callable[[str, float], None],
) -> Assembled:
    """Assemble a base and write it to `image`.

    Args:
        recipe: what to assemble.
        image: the file to write; it is removed again when anything fails.
        work: folder for what is needed on the way; everything made there is removed.
        debs: folder that keeps downloaded packages from build to build.
        epoch: the build's date, in seconds since 1970; not earlier than the packages'.
        on_step: called with what is being done and the share of the whole that is done, 0 to 1.

    Raises:
        MissingTool: arm64 programs do not run here, or a tool is missing.
        CommandFailed: a tool failed.
    """
    image, work, debs = image.absolute(), work.absolute(), debs.absolute()
    clock = _Clock(on_step)
    disk = debian_disk.Disk(
        path=image,
        boot_mib=recipe.boot_mib,
        size_mib=recipe.size_mib,
        epoch=epoch,
        identifier=recipe.identifier,
    )
    try:
        with debian_host.scratch(work) as room:
            clock.step("partitioning", 0.0)
            disk.partition()
            built = debian_tree.build(
                debian_tree.Order(
                    suite=recipe.suite,
                    components=recipe.components,
                    packages=recipe.packages,
                    stand_ins=recipe.stand_ins,
                    lent=recipe.lent,
                    merge_usr=recipe.merge_usr,
                    flavour=recipe.flavour,
                    epoch=epoch,
                    environment=disk.environment(),
                ),
                image=image,
                room=room,
                debs=debs,
                on_step=clock.step,
            )
            clock.step("writing the boot partition", 0.98)
            disk.write_boot(built.firmware)
    except BaseException:
        image.unlink(missing_ok=True)
        raise
    clock.step("done", 1.0)
    log.debug("seconds by phase: %s", clock.seconds)
    return Assembled(built.packages, clock.seconds)


@dataclass
class _Clock:
    """Measures phases: each lasts from its first mention to the next phase's."""

    on_step: Callable[[str, float], None]
    seconds: dict[str, float] = field(default_factory=dict)
    phase: str = ""
    since: float = 0.0

    def step(self, phase: str, share: float) -> None:
        now = time.monotonic()
        if phase != self.phase:
            if self.phase:
                self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self.since
            self.phase, self.since = phase, now
        self.on_step(phase, share)


def _digests(folder: tuple[str, ...]) -> dict[str, str]:
    """Return the sha256 (hex) of every file below a folder of data, by its path in there."""
    base = resources.path(*folder)
    return {
        str(path.relative_to(base)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in resources.below(base)
        if path.is_file()
    }


def _packages(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of packages.txt that hold for a base that these words describe, flavours' last."""
    names: dict[str, None] = {}
    for folder in (DATA, FLAVOURS):
        for line in resources.text(*folder, "packages.txt").splitlines():
            name, _, rest = line.partition(" ")
            limits = rest.strip()[1:].partition("]")[0] if rest.strip().startswith("[") else ""
            if not name or name == "#" or not set(limits.split()) <= set(words):
                continue
            if name.startswith("-"):
                names.pop(name[1:], None)
            else:
                names[name] = None
    return tuple(names)
