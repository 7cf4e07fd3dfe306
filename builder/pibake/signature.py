"""OpenPGP signatures, checked by gpgv: it trusts the keyring it is given, and nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.errors import VerificationError
from pibake.run import run

if TYPE_CHECKING:
    from pibake.proof import Key

FAULTS = {
    "BADSIG": "a signature that does not fit the content",
    "EXPSIG": "a signature that has expired",
    "EXPKEYSIG": "a signature by a key that has expired",
    "REVKEYSIG": "a signature by a key that was revoked",
    "NO_PUBKEY": "a signature by another key",
    "ERRSIG": "a signature that cannot be checked",
    "NODATA": "no signature at all",
}
"""Status lines of gpgv that mean "no" (GnuPG's doc/DETAILS, "General status codes"), worst first."""


def verify(content: bytes | Path, signature: bytes, key: Key, what: str) -> str:
    """Check a detached signature and return the fingerprint of the signer.

    Several signatures may stand in one file, as when a vendor changes keys: one good one by the right key is
    enough, unless another one contradicts the content.

    Args:
        content: what is signed, or the file that holds it.
        signature: the signature, binary or armoured.
        key: whose signature it must be.
        what: what is signed and from where, for errors.

    Raises:
        VerificationError: there is no good signature by that key.
    """
    with tempfile.TemporaryDirectory(prefix="pibake-gpgv-") as name:
        folder = Path(name)
        (folder / "signature").write_bytes(signature)
        if isinstance(content, bytes):
            (folder / "content").write_bytes(content)
            content = folder / "content"
        return _judge([folder / "signature", content.resolve()], folder, key, what)


def opened(signed: bytes, key: Key, what: str) -> bytes:
    """Check a cleartext signature and return the text that it signs, without whatever stands around it.

    Raises:
        VerificationError: there is no good signature by that key.
    """
    with tempfile.TemporaryDirectory(prefix="pibake-gpgv-") as name:
        folder = Path(name)
        (folder / "signed").write_bytes(signed)
        _judge(["--output", folder / "text", folder / "signed"], folder, key, what)
        return (folder / "text").read_bytes()


def need(key: Key, what: str) -> None:
    """Raise `VerificationError` if there is no key to check the signature of `what` with: before it is downloaded."""
    if not key.file.is_file():
        raise VerificationError(
            f"the signature of {what}",
            expected=f"a good signature by {key.fingerprint}",
            got=f"no key to check it with: there is no file {key.file}",
            source="the catalogue",
            hint=f"get the vendor's key, compare its fingerprint, and put it there: gpg --export {key.fingerprint} > {key.file}",
        )


def _judge(arguments: list[str | Path], folder: Path, key: Key, what: str) -> str:
    argv: list[str | Path] = ["gpgv", "--homedir", folder, "--keyring", key.file.resolve(), "--weak-digest", "SHA1",
            "--status-fd", "1", *arguments]  # fmt: skip
    done = run(argv, why="check the vendor's signature", check=False)
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("[GNUPG:] ")]
    seen = {line[0]: line for line in lines if line}
    good = _good(lines)
    if "BADSIG" not in seen and key.fingerprint in good:
        return key.fingerprint
    got = next((f"{meaning}{_by(seen[code])}" for code, meaning in FAULTS.items() if code in seen), "")
    if good and not got:
        got = f"a good signature by {', '.join(sorted(good))}"
    raise VerificationError(
        f"the signature of {what}",
        expected=f"a good signature by {key.fingerprint}",
        got=got or f"nothing of use (gpgv: {done.stderr.strip() or 'no output'})",
        source=f"the key in {key.file}",
        hint="do not use it: it may have been tampered with. "
        "If the vendor changed keys, a newer pibake (or `images/keys/`) has the new one",
    )


def _good(lines: list[list[str]]) -> set[str]:
    """Return the primary fingerprints behind signatures that are both good and valid.

    gpgv says VALIDSIG of an expired or revoked key's signature, too; only GOODSIG just before it means "yes".
    """
    found, good = set(), False
    for code, *rest in (line for line in lines if line):
        if code == "NEWSIG":
            good = False
        elif code == "GOODSIG":
            good = True
        elif code == "VALIDSIG" and good:
            found.add(rest[-1])
    return found


def _by(line: list[str]) -> str:
    return f" ({line[1]})" if len(line) > 1 and line[0] != "NODATA" else ""
