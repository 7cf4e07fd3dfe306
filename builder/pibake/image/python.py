"""A Python for the initramfs, taken out of a root file system that has one: as much of it as small programs need.

It stands in a folder of its own, with its loader and its libraries, and is started through the loader: neither what
the initramfs has of these, nor where it has them, matters.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image import elf
from pibake.image.ext4_tree import DIRECTORY
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pibake.image.ext4_tree import Files

ROOT = "pibake/python"
COMMAND = (f"/{ROOT}/ld.so", "--library-path", f"/{ROOT}/lib", f"/{ROOT}/bin/python", "-I", "-S")
"""Starts the interpreter, isolated and without site-packages; a program and its arguments follow."""

MODULES = (
    "_collections_abc", "_py_warnings", "_weakrefset", "abc", "codecs", "collections/__init__", "collections/abc", "copyreg",
    "ctypes/__init__", "ctypes/_endian", "ctypes/_layout", "encodings/__init__", "encodings/aliases", "encodings/ascii",
    "encodings/latin_1", "encodings/utf_8", "enum", "functools", "genericpath", "heapq", "io", "keyword", "operator", "os",
    "posixpath", "reprlib", "selectors", "socket", "stat", "struct", "types", "warnings",
)  # fmt: skip
"""What the interpreter itself, `ctypes`, `os`, `socket`, `struct`, `sys` and `time` import, in Python 3.9 to 3.14."""
EXTENSIONS = ("_ctypes", "_socket", "_struct", "array", "math", "select")
"""The same, of what is compiled; Debian has most of it in the interpreter."""


def runtime(files: Files) -> Tree:
    """Return the Python of a root file system, below `ROOT`; `COMMAND` starts it.

    Modules are those compiled when the package was installed: they need no source, and start several times as fast.

    Raises:
        ImageError: there is no Python 3, or something it needs is missing.
    """
    program, node = files.find("usr/bin/python3")
    version = re.search(r"python(3)\.(\d+)$", program)
    if node is None or version is None:
        raise ImageError(
            f"{files.image.name}: there is no Python 3 at /usr/bin/python3, by which `root: nbd` gets its disk",
            "take a base with cloud-init, which needs Python, or set `root: nfs`",
        )
    library = f"usr/lib/python{version[1]}.{version[2]}"
    extensions = [
        f"{library}/lib-dynload/{name}"
        for name in files.listing(f"{library}/lib-dynload")
        if name.partition(".")[0] in EXTENSIONS
    ]
    compiled = files.contents([program, *extensions])
    linked, loader = _libraries(files, compiled)
    return Tree(
        {
            f"{ROOT}/bin/python": File(compiled.pop(program), 0o755),
            f"{ROOT}/ld.so": File(loader, 0o755),
            **{f"{ROOT}/lib/{name}": File(data) for name, data in linked.items()},
            **{f"{ROOT}/{path.removeprefix('usr/')}": File(data) for path, data in compiled.items()},
            **_modules(files, library, f"cpython-{version[1]}{version[2]}"),
        }
    )


def _libraries(files: Files, programs: dict[str, bytes]) -> tuple[dict[str, bytes], bytes]:
    """Return the shared libraries that programs need, and those these need, by name; and the dynamic loader."""
    folders = [
        f"{folder}/{name}"
        for folder in ("usr/lib", "lib")
        for name, node in files.listing(folder).items()
        if "-linux-" in name and node.kind == DIRECTORY
    ]
    folders += ["usr/lib", "lib"]
    asked = [elf.needs(data, path) for path, data in programs.items()]
    loader = next((needs.loader.lstrip("/") for needs in asked if needs.loader), "")
    found: dict[str, bytes] = {}
    wanted = {name for needs in asked for name in needs.libraries}
    while wanted:
        new = _find(files, folders, sorted(wanted))
        found |= new
        wanted = {name for key, data in new.items() for name in elf.needs(data, key).libraries} - set(found)
    found.pop(PurePosixPath(loader).name, None)
    if (data := files.read(loader)) is None:
        raise ImageError(f"{files.image.name}: Python's dynamic loader /{loader} is missing")
    return found, data


def _find(files: Files, folders: Iterable[str], names: list[str]) -> dict[str, bytes]:
    places = {name: [f"{folder}/{name}" for folder in folders] for name in names}
    contents = files.contents([path for paths in places.values() for path in paths])
    found = {
        name: next((contents[p] for p in paths if p in contents), None) for name, paths in places.items()
    }
    if missing := [name for name, data in found.items() if data is None]:
        raise ImageError(
            f"{files.image.name}: Python needs {', '.join(missing)}, found in no folder of libraries"
        )
    return {name: data for name, data in found.items() if data is not None}


def _modules(files: Files, library: str, tag: str) -> dict[str, File]:
    """Return the standard library's modules; which of them there are differs from version to version."""
    sources = {f"{library}/{module}.py": module for module in MODULES}
    cached = {}
    for module in MODULES:
        folder, _, name = module.rpartition("/")
        cached["/".join(filter(None, (library, folder, "__pycache__", f"{name}.{tag}.pyc")))] = module
    contents = files.contents([*cached, *sources])
    ready = {module: contents[path] for path, module in cached.items() if path in contents}
    plain = {
        module: contents[path] for path, module in sources.items() if path in contents and module not in ready
    }
    where = f"{ROOT}/{library.removeprefix('usr/')}"
    return {
        **{f"{where}/{module}.pyc": File(data) for module, data in ready.items()},
        **{f"{where}/{module}.py": File(data) for module, data in plain.items()},
    }
