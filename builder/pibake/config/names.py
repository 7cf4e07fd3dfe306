"""DNS names: of nodes, of the cluster and of its domain."""

from __future__ import annotations

import functools
import re

from pibake.config.problems import Bad, show

NAME_HINT = "use a-z, 0-9 and hyphens, as in node3 or node3.lab.example"


@functools.lru_cache(maxsize=4096)
def hostname(text: str) -> str:
    """Return a host name, short or full.

    RFC 1123 section 2.1 and RFC 1035 section 2.3.4: labels of letters, digits and inner hyphens, 63 characters
    each and 253 in all. Lower case only, because Kubernetes' node names are (RFC 1123 subdomains, lower case).
    """
    wrong = _name_fault(text)
    if text.split(".", 1)[0] == "localhost":
        wrong = "localhost is every host's name for itself"
    if wrong:
        raise Bad(f"{show(text)} is not a host name: {wrong}", _name_hint(text))
    return text


@functools.lru_cache(maxsize=4096)
def domain(text: str) -> str:
    """Return a domain name; the same rules as `hostname`."""
    wrong = _name_fault(text)
    if wrong:
        raise Bad(
            f"{show(text)} is not a domain name: {wrong}", _name_hint(text, "write it like lab.example")
        )
    return text


@functools.lru_cache(maxsize=4096)
def cluster(text: str) -> str:
    """Return the cluster's name: one DNS label, since contexts, certificates and files are named after it."""
    return _label(text, "a name for a cluster", "lab")


@functools.lru_cache(maxsize=1024)
def label(text: str) -> str:
    """Return one DNS label, as Kubernetes' namespaces and most of its objects are called (RFC 1123)."""
    return _label(text, "a name in Kubernetes", "my-app")


@functools.lru_cache(maxsize=256)
def node_class(text: str) -> str:
    """Return the name of a class of nodes: one DNS label."""
    return _label(text, "a name for a class", "storage")


def _label(text: str, what: str, example: str) -> str:
    wrong = "it holds a dot" if "." in text else _name_fault(text)
    if wrong:
        hint = _name_hint(text.replace(".", "-"), f"use a-z, 0-9 and hyphens, as in {example}")
        raise Bad(f"{show(text)} is not {what}: {wrong}", hint)
    return text


def _name_fault(text: str) -> str:
    """Return what is wrong with a DNS name, or nothing."""
    if len(text) > 253:
        return f"it has {len(text)} characters and 253 is the most"
    for label in text.split("."):
        if not label:
            return "a part between the dots is empty" if text else "it is empty"
        if len(label) > 63:
            return f"a part of it has {len(label)} characters and 63 is the most"
        if label[0] == "-" or label[-1] == "-":
            return "a part of it starts or ends with a hyphen"
        if stray := re.search(r"[^a-z0-9-]", label):
            upper = stray[0].isascii() and stray[0].isupper()
            return "it is not lower case" if upper else f"it holds {show(stray[0])}"
    return ""


def _name_hint(text: str, otherwise: str = NAME_HINT) -> str:
    slug = re.sub(r"[\s_-]+", "-", text.lower()).strip("-.")
    return (
        f"did you mean `{slug}`?" if slug not in {text, "localhost"} and not _name_fault(slug) else otherwise
    )
