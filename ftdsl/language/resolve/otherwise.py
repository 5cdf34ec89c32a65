"""Names that people, drivers, forks and other languages give to GPUs, chat templates and constants."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Diagnostic, Severity, Sink, guessed
from ftdsl.source import Span

CONSTANTS = {
    **dict.fromkeys(("True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), "true"),
    **dict.fromkeys(("False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), "false"),
    **dict.fromkeys(("None", "NONE", "Null", "NULL", "nil", "undefined"), "null"),
}
"""Spellings of Python, YAML and others for `true`, `false` and `null` (or `none`)."""


def known_as(text: str, key: Key) -> str:
    """The catalogue's name of a GPU or chat template that people call otherwise (`A100-80G`, `4090`, `qwen2.5`); ""."""
    if key.catalog == "gpus":
        from ftdsl.catalog.cards import card_named

        card = card_named(text)
        return f"{card.name}({card.memory}GB)" if card.name and card.memory else card.name
    if key.catalog == "templates":
        from ftdsl.catalog import foreign

        return foreign.value_of("template", text)
    return ""


def named_otherwise(span: Span, key: Key, sink: Sink) -> bool:
    """Report a GPU's name that reads as a number or a sum (`A100-80G`, `4090`); whether it is one."""
    guess = known_as(span.text, key) if key.catalog == "gpus" else ""
    if guess:
        fix = guessed(span, guess)
        sink.error(
            "FT002", f"`{key.name}` has no member `{span.text}`", span, label=f"did you mean `{guess}`?", fix=fix
        )
    return bool(guess)


def template_meant(text: str, names: Iterable[str]) -> tuple[str, bool]:
    """The chat template meant by a name that no release has ("" if none), and whether the name is wrong: people's name of one
    that there is (`qwen25`), or its letters mixed up (`qwne3`). One with something added (`qwen3_mine`) may be a fork's.
    """
    from ftdsl.catalog import foreign
    from ftdsl.diagnostics.suggest import closest

    known = list(names)
    if meant := foreign.value_of("template", text):
        return meant, True
    guess = closest(text, known) or ""
    return guess, bool(guess) and not text.startswith(tuple(known))


def may_be_of_a_fork(text: str, names: Iterable[str], span: Span, sink: Sink) -> bool:
    """Warn of a chat template that no release has, and a fork of the engine may have; whether it is one."""
    guess, is_wrong = template_meant(text, names)
    if is_wrong or not re.fullmatch(r"[A-Za-z][\w.-]*", text, re.ASCII):
        return False
    label = f"did you mean `{guess}`?" if guess else ""
    help = f"define it here, `template {text} {{ … }}`, or use a fork that has it"
    message = f"no release of the engine has a template `{text}`"
    sink.add(
        Diagnostic("FT002", message, span, Severity.WARNING, label, (), help, guessed(span, guess) if guess else None)
    )
    return True
