"""Files that belong to pibake but are not Python: templates, overlays, catalogue, keys, package list."""

from __future__ import annotations

import base64
import functools
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


@functools.cache
def root() -> Path:
    """Return the folder that holds `cloud-init/`, `images/`, `overlays/`: inside a wheel, or the checkout."""
    packaged = Path(__file__).parent / "_data"
    return packaged if packaged.is_dir() else Path(__file__).parents[2]


def path(*parts: str) -> Path:
    """Return the path of one data file or folder."""
    return root().joinpath(*parts)


def below(folder: Path) -> list[Path]:
    """Return everything below a folder, sorted, without what Python leaves beside programs that it has imported."""
    return sorted(
        found for found in folder.rglob("*") if "__pycache__" not in found.relative_to(folder).parts
    )


def text(*parts: str) -> str:
    """Return the content of one data file."""
    return path(*parts).read_text("utf-8")


@dataclass(frozen=True)
class Package:
    """A line of packages.txt: a Debian package, what it gives, and which job needs it."""

    job: str
    name: str
    provides: str
    why: str


@functools.cache
def packages() -> tuple[Package, ...]:
    """Return the system packages pibake uses, in the order of packages.txt."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    rows = [line.split(None, 3) for line in text("packages.txt").splitlines() if not line.startswith("#")]
    return tuple(
        Package(job, name.replace("ARCH", architecture), provides, why) for job, name, provides, why in rows
    )


def render(name: str, /, **values: Any) -> str:
    """Render the Jinja template at `name` below the data root; an undefined name is an error.

    Templates of free-text formats use the filter `line`, which refuses newlines; YAML values go through
    `tojson`, since every JSON value is a YAML value. In templates of HTML, `*.html.j2`, every value is escaped.
    """
    return environment().get_template(name).render(**values)


@functools.cache
def environment() -> jinja2.Environment:
    """Return the rules that all templates follow; see `render`."""
    import jinja2  # noqa: PLC0415 - a tenth of a second that `--help` should not pay

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root()),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html.j2"], default_for_string=False, default=False),
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = line
    environment.filters["b64encode"] = lambda data: base64.b64encode(data).decode()
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment


def line(value: object) -> str:
    """Return a value as text that can stand on one line of a free-text format.

    Raises:
        ValueError: it holds a control character.
    """
    text = str(value)
    if any(ord(c) < 32 or c in "\x7f\x85\u2028\u2029" for c in text):
        raise ValueError(f"{text!r} holds a control character and cannot stand on one line")
    return text
