"""One text for other versions: which rewriter reads it, and what it says of every change."""

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
"""What is rewritten once may let the next be (two edits at one place wait for each other)."""

REWRITTEN, LEFT, MEANS_OTHERWISE = "FT910", "FT911", "FT912"


@frozen
class Upgraded:
    """The text afterwards, and every change (with a fix), what is left for a person (warnings), and new defaults (infos).

    `readable` is False when the text has errors of its own: then they are `found`, and it stays as it is."""

    text: str
    found: list[Diagnostic] = field(default_factory=list)
    readable: bool = True

    @property
    def left(self) -> bool:
        return any(one.severity is not Severity.INFO for one in self.found)


def upgrade(source: Source, to: Mapping[str, str], before: Mapping[str, str]) -> Upgraded:
    """`to` and `before`: package -> version; a recipe's own pin counts as before where nothing is said."""
    rewrite = _recipe if recognise.is_recipe(source.name, source.text) else _document
    done: list[Diagnostic] = []
    found: list[Diagnostic] = []
    for _ in range(ROUNDS):
        sink = Sink()
        found = rewrite(source, to, before, sink)
        if sink.failed:
            return Upgraded(source.text, list(sink), readable=False)
        text, taken = apply(source, found, unsafe=False)
        done += [one for one in found if one.fix in taken]
        if not taken:
            break
        source = Source(source.name, text)
    rest = [one for one in found if one.fix is None]
    text = re.sub(r"(?<!\r)\n", "\r\n", source.text) if "\r\n" in source.text else source.text
    return Upgraded(text, [*done, *sorted(rest, key=lambda one: (one.code, one.span.start if one.span else -1))])


def _recipe(source: Source, to: Mapping[str, str], before: Mapping[str, str], sink: Sink) -> list[Diagnostic]:
    file = parse(source, sink)
    pin = recipes.pin(file)
    goal = Goal(to, {**({ENGINE: pin.plain} if pin and pin.plain else {}), **before})
    found = []
    if pin and ENGINE in to and pin.plain != to[ENGINE]:
        found.append(
            _rewritten(
                pin.span,
                f"`{pin.plain}` -> `{to[ENGINE]}`: the engine that is asked for",
                "",
                [recipes.repinned(pin, to[ENGINE])],
            )
        )
    for block in recipes.blocks(file.items):
        there = recipes.binds(block)
        for step in steps(recipes.values(block), goal):
            span = there[step.key].key[0].span
            edits = recipes.edits(step, block) if step.becomes is not None else None
            found.append(_said(step, span, edits))
        found += [Diagnostic(LEFT, text, span, Severity.WARNING) for span, text in recipes.words(block)]
    return found


def _document(source: Source, to: Mapping[str, str], before: Mapping[str, str], sink: Sink) -> list[Diagnostic]:
    root = read(source, sink)
    if root is None or sink.failed:
        return []
    kind = recognise.document(root.value)
    if kind not in (ENGINE, "deepspeed"):
        text = f"this is no file that can be upgraded ({kind})"
        sink.error("FT050", text, Span(source, 0, 0), help="recipes, LLaMA-Factory YAML and DeepSpeed JSON can")
        return []
    nested = kind == "deepspeed"
    goal = Goal(to, before, ("deepspeed",)) if nested else Goal(to, before)
    places, values = documents.keys(root, nested), documents.values(root, nested)
    found = []
    for step in steps(values, goal):
        edits = documents.edits(step, places) if step.becomes is not None else None
        found.append(_said(step, places[step.key][1].name, edits))
    return [*found, *(_default(one, Span(source, 0, 0)) for one in defaults(values, goal))]


def _said(step: Step, span: Span, edits: list[Edit] | None) -> Diagnostic:
    if step.becomes is None:
        return Diagnostic(LEFT, f"`{step.key}` is left: {step.reason}", span, Severity.WARNING, help=step.source)
    if edits is None:
        what = ", ".join(f"{name}: {value}" for name, value in step.becomes.items())
        return Diagnostic(
            LEFT, f"`{step.key}` is left: say `{what}` yourself", span, Severity.WARNING, help=step.source
        )
    return _rewritten(span, f"`{step.key}` {_now(step)}: {step.reason}", step.source, edits)


def _now(step: Step) -> str:
    if not step.becomes:
        return "is gone"
    said = [name if name != step.key else f"{name}: {value}" for name, value in step.becomes.items()]
    return f"-> `{'`, `'.join(said)}`"


def _rewritten(span: Span, message: str, source: str, edits: list[Edit]) -> Diagnostic:
    return Diagnostic(REWRITTEN, message, span, Severity.INFO, help=source, fix=Fix(message, tuple(edits)))


def _default(one: Default, span: Span) -> Diagnostic:
    now, was = _shown(one.now), _shown(one.before)
    text = f"`{one.key}` is not said: its default is {now} since {one.package} {one.since}, and was {was}"
    return Diagnostic(MEANS_OTHERWISE, text, span, Severity.INFO)


def _shown(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), str(value))


def lines(upgraded: Upgraded) -> Iterator[str]:
    """What was done, a line each: `train.yaml:4: …`."""
    for one in upgraded.found:
        where = f"{one.span.where}: " if one.span else ""
        source = f" [{one.help}]" if one.help else ""
        yield f"{where}{one.message}{source}"
