"""Jinja templates of the user's: the rules of pibake's own, and faults with the line they stand on.

They include nothing: every template is a file by itself.
"""

from __future__ import annotations

import functools
import traceback
from typing import TYPE_CHECKING, Any

from pibake import resources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    import jinja2

NAME = "<overlay>"
"""What the lines of a template are known by in a traceback."""


class Fault(Exception):
    """What is wrong with a template, and the line (from 0) that it is wrong on."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message, self.line = message.rstrip("."), line


def names(text: str) -> Iterator[tuple[str, int]]:
    """Yield every name that a template wants to be given, and the line (from 0) of each place where it stands.

    Raises:
        Fault: it is no template.
    """
    import jinja2.meta  # noqa: PLC0415 - a tenth of a second that `--help` should not pay
    import jinja2.nodes  # noqa: PLC0415 - as above

    try:
        tree = _environment().parse(text)
        wanted = jinja2.meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        raise Fault(error.message or "this is no Jinja template", error.lineno - 1) from None
    for node in tree.find_all(jinja2.nodes.Name):
        if node.name in wanted and node.ctx == "load":
            yield node.name, node.lineno - 1


def render(text: str, values: dict[str, Any]) -> str:
    """Render a template; an undefined name is a fault.

    Raises:
        Fault: it is no template, or cannot be rendered with these values.
    """
    import jinja2  # noqa: PLC0415 - as above

    environment = _environment()
    try:
        code = _compiled(text)
        return environment.template_class.from_code(environment, code, environment.make_globals(None)).render(
            values
        )
    except jinja2.TemplateSyntaxError as error:
        raise Fault(error.message or "this is no Jinja template", error.lineno - 1) from None
    except Exception as error:  # what a template does with its values, its filters may refuse in any way
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == NAME
        ]
        raise Fault(str(error) or type(error).__name__, (lines[-1] or 1) - 1 if lines else 0) from error


@functools.lru_cache(maxsize=256)
def _compiled(text: str) -> CodeType:
    return _environment().compile(text, filename=NAME)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = resources.environment().overlay()
    environment.loader = None
    return environment
