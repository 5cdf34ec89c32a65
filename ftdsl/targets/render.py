"""Templates to text. The only module that imports jinja2; templates have no logic, only loops and values to insert.

An undefined name is a bug and raises; the filter of each format quotes the values.
"""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ftdsl.engines.jobs import Raw

HERE = Path(__file__).parent


def _folder() -> Path:
    """The folder of templates: in the installed package, or at the top of a checkout."""
    inside = HERE / "templates"
    return inside if inside.is_dir() else HERE.parent.parent / "templates"


def render(template: str, **values: Any) -> str:
    """The text of a template. Raises: jinja2.UndefinedError if a value is missing."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_folder()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"sh": shell_word, "yaml": yaml_text, "json": json_text, "comment": comment}
    return environment


def shell_word(value: str | Raw) -> str:
    """One word of a shell command: quoted, except `Raw` text."""
    return value.text if isinstance(value, Raw) else shlex.quote(value)


class _Dumper(yaml.SafeDumper):
    """Indents lists, never writes anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def yaml_text(value: Any) -> str:
    """A mapping as YAML, keys in the given order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text.rstrip("\n")


def json_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def comment(text: str) -> str:
    """Text for a comment: without characters that could end the line."""
    return "".join(char if char.isprintable() else " " for char in text)
