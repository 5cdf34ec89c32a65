"""Upgrades one text: chooses the rewriter, and reports every change as a diagnostic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from ftdsl.diagnostics import Diagnostic, Fix, Severity, Sink
from ftdsl.diagnostics.fixes import apply
from ftdsl.diagnostics.model import Edit
from ftdsl.importers import recognise
from ftdsl.language.parser import parse
from ftdsl.language.yaml_tree import read
from ftdsl.record import frozen
from ftdsl.source import Source, Span
from ftdsl.upgrade import documents, recipes
from ftdsl.upgrade.goal import ENGINE, Goal
from ftdsl.upgrade.steps import Default, Step, defaults, steps

ROUNDS = 5
"""A rewrite may enable the next (two edits at one place are applied one after the other)."""

REWRITTEN, LEFT, NEW_DEFAULT = "FT910", "FT911", "FT912"


@frozen
class Upgraded:
    """The new text; diagnostics: every change (with a fix), what the user must decide (warnings), and new defaults (infos).

    readable: False if the text has errors, which are then the diagnostics, and the text is unchanged.
    """

    text: str
    diagnostics: list[Diagnostic] = field(default_factory=list)
    readable: bool = True

    @property
    def needs_attention(self) -> bool:
        return any(diagnostic.severity is not Severity.INFO for diagnostic in self.diagnostics)


def upgrade(source: Source, to: Mapping[str, str], before: Mapping[str, str]) -> Upgraded:
    """to, before: package -> version; a recipe's own pin is the default of `before`."""
    rewrite = _recipe if recognise.is_recipe(source.name, source.text) else _document
    done: list[Diagnostic] = []
    diagnostics: list[Diagnostic] = []
    for _ in range(ROUNDS):
        sink = Sink()
        diagnostics = rewrite(source, to, before, sink)
        if sink.failed:
            return Upgraded(source.text, list(sink), readable=False)
        text, taken = apply(source, diagnostics, unsafe=False)
        done += [diagnostic for diagnostic in diagnostics if diagnostic.fix in taken]
        if not taken:
            break
        source = Source(source.name, text)
    rest = [diagnostic for diagnostic in diagnostics if diagnostic.fix is None]
    text = re.sub(r"(?<!\r)\n", "\r\n", source.text) if "\r\n" in source.text else source.text
    return Upgraded(
        text,
        [
            *done,
            *sorted(rest, key=lambda diagnostic: (diagnostic.code, diagnostic.span.start if diagnostic.span else -1)),
        ],
    )


def _recipe(source: Source, to: Mapping[str, str], before: Mapping[str, str], sink: Sink) -> list[Diagnostic]:
    file = parse(source, sink)
    pin = recipes.pin(file)
    goal = Goal(to, {**({ENGINE: pin.plain} if pin and pin.plain else {}), **before})
    diagnostics = []
    if pin and ENGINE in to and pin.plain != to[ENGINE]:
        diagnostics.append(
            _rewritten(
                pin.span,
                f"`{pin.plain}` -> `{to[ENGINE]}`: the target version of the engine",
                "",
                [recipes.repinned(pin, to[ENGINE])],
            )
        )
    for block in recipes.blocks(file.items):
        by_key = recipes.binds(block)
        for step in steps(recipes.values(block), goal):
            span = by_key[step.key].key[0].span
            edits = recipes.edits(step, block) if step.becomes is not None else None
            diagnostics.append(_diagnostic(step, span, edits))
        diagnostics += [Diagnostic(LEFT, text, span, Severity.WARNING) for span, text in recipes.misplaced_keys(block)]
    return diagnostics


def _document(source: Source, to: Mapping[str, str], before: Mapping[str, str], sink: Sink) -> list[Diagnostic]:
    root = read(source, sink)
    if root is None or sink.failed:
        return []
    kind = recognise.document(root.value)
    if kind not in (ENGINE, "deepspeed"):
        text = f"this file cannot be upgraded ({kind})"
        help = "only recipes, LLaMA-Factory YAML and DeepSpeed JSON can"
        sink.error("FT050", text, Span(source, 0, 0), help=help)
        return []
    nested = kind == "deepspeed"
    goal = Goal(to, before, ("deepspeed",)) if nested else Goal(to, before)
    locations, values = documents.keys(root, nested), documents.values(root, nested)
    diagnostics = []
    for step in steps(values, goal):
        edits = documents.edits(step, locations) if step.becomes is not None else None
        diagnostics.append(_diagnostic(step, locations[step.key][1].name, edits))
    return [*diagnostics, *(_default(default, Span(source, 0, 0)) for default in defaults(values, goal))]


def _diagnostic(step: Step, span: Span, edits: list[Edit] | None) -> Diagnostic:
    if step.becomes is None:
        return Diagnostic(LEFT, f"`{step.key}` is not changed: {step.reason}", span, Severity.WARNING, help=step.source)
    if edits is None:
        what = ", ".join(f"{name}: {value}" for name, value in step.becomes.items())
        return Diagnostic(
            LEFT, f"`{step.key}` is not changed: write `{what}` yourself", span, Severity.WARNING, help=step.source
        )
    return _rewritten(span, f"`{step.key}` {_now(step)}: {step.reason}", step.source, edits)


def _now(step: Step) -> str:
    if not step.becomes:
        return "removed"
    texts = [name if name != step.key else f"{name}: {value}" for name, value in step.becomes.items()]
    return f"-> `{'`, `'.join(texts)}`"


def _rewritten(span: Span, message: str, source: str, edits: list[Edit]) -> Diagnostic:
    return Diagnostic(REWRITTEN, message, span, Severity.INFO, help=source, fix=Fix(message, tuple(edits)))


def _default(default: Default, span: Span) -> Diagnostic:
    now, was = _shown(default.now), _shown(default.before)
    text = f"`{default.key}` is not set: its default is {now} since {default.package} {default.since}, and was {was}"
    return Diagnostic(NEW_DEFAULT, text, span, Severity.INFO)


def _shown(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), str(value))


def lines(upgraded: Upgraded) -> Iterator[str]:
    """Every change as a line: `train.yaml:4: …`."""
    for diagnostic in upgraded.diagnostics:
        where = f"{diagnostic.span.location}: " if diagnostic.span else ""
        source = f" [{diagnostic.help}]" if diagnostic.help else ""
        yield f"{where}{diagnostic.message}{source}"
