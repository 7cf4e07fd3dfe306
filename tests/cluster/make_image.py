"""Pack a folder as a container image for arm64, without a container engine.

    make_image.py [--user UID:GID] [--env NAME=VALUE] NAME ROOT OUTPUT COMMAND...

Without --user the command runs as nobody, with 0:0 it may write what belongs to root.

OUTPUT is a docker-archive (what `docker save` writes and `ctr images import` reads): a tar file of one layer, the
image's configuration, and manifest.json. The same folder gives the same bytes: entries are sorted, owned by root
and dated 1970.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tarfile
from pathlib import Path


def entry(tar: tarfile.TarFile, name: str, mode: int, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(content)
    tar.addfile(info, io.BytesIO(content))


def pack(root: Path) -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            info = tarfile.TarInfo(name)
            if path.is_symlink():
                info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, str(path.readlink())
                tar.addfile(info)
            elif path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                entry(tar, name, 0o755 if path.stat().st_mode & 0o100 else 0o644, path.read_bytes())
    return layer.getvalue()


def archive(name: str, layer: bytes, command: list[str], user: str, environment: list[str]) -> bytes:
    config = {
        "architecture": "arm64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": command,
            "Env": ["PATH=/bin", *environment],
            "User": user,
            "WorkingDir": "/",
            # process 1 gets no signal it has no handler for, and would only die after the pod's grace period
            "StopSignal": "SIGKILL",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "make_image.py"}],
    }
    encoded = json.dumps(config).encode()
    digest = hashlib.sha256(encoded).hexdigest()
    manifest = [{"Config": f"{digest}.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry(tar, f"{digest}.json", 0o644, encoded)
        entry(tar, "layer.tar", 0o644, layer)
        entry(tar, "manifest.json", 0o644, json.dumps(manifest).encode())
    return image.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", default="65534:65534")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("name")
    parser.add_argument("root", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    image = archive(given.name, pack(given.root), given.command, given.user, given.env)
    given.output.write_bytes(image)
