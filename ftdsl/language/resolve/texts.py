"""Texts: what the holes of a text stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Sink
from ftdsl.diagnostics.suggest import closest
from ftdsl.language import tree
from ftdsl.language.resolve.coerce import FILES, coerce, part_exists
from ftdsl.language.resolve.names import Found, KeyFound, LetFound, ParamFound, Place, StageFound
from ftdsl.language.resolve.raw import WRONG, Bare, Broken, Invoke, Lit, Num, Raw, Stg, Str
from ftdsl.language.types import parse_type
from ftdsl.language.values import Script, Slot, StageRef, Term
from ftdsl.record import replace

if TYPE_CHECKING:
    from ftdsl.language.resolve.evaluate import Evaluator

MAX_NAMES = 100
"""Names that may stand for each other until one of them is a script."""

MAX_TEXT = 2**16
"""Characters an interpolated text may have; texts that double each other would never end otherwise."""

Written = tuple[str | StageRef, ...]
"""A text in pieces; what a stage makes is filled in when it has run."""


def text(ev: Evaluator, node: tree.Text, place: Place, sink: Sink) -> Raw:
    """A text with its holes filled; what a stage makes stays a reference."""
    parts: list[str | StageRef] = []
    for part in node.parts:
        written = (part,) if isinstance(part, str) else _hole(ev, part, place, sink)
        if written is None:
            return Broken(node.span)
        for piece in written:
            if isinstance(piece, str) and parts and isinstance(parts[-1], str):
                parts[-1] += piece
            elif piece != "":
                parts.append(piece)
    if sum(len(part) if isinstance(part, str) else 1 for part in parts) > MAX_TEXT:
        sink.error("FT003", f"this text is longer than {MAX_TEXT:,} characters", node.span)
        return Broken(node.span)
    return Str(tuple(parts), node.span)


def _hole(ev: Evaluator, hole: tree.Hole, place: Place, sink: Sink) -> Written | None:
    path = tuple(word.text for word in hole.path)
    if place.view and path in (("run",), ("stage",)):
        ev.trace.local = True
        return (place.view.run if path == ("run",) else place.view.name,)
    ref = tree.Ref(hole.path, hole.span)
    meanings: list[Written] = []
    raw: Raw | None = None
    for candidate in ev.names.candidates(path, place):
        with ev.tracing() as trace:
            raw = ev.look_up(candidate, ref, sink if isinstance(candidate, StageFound) else Sink())
            if isinstance(raw, Invoke) and raw.name in ("env", "secret"):
                ev.used(hole.path[0].span, candidate)
                return _variable(ev, raw, hole, sink)
            if isinstance(raw, Stg) and not part_exists(ev, raw, FILES, sink):
                return None
            written = _as_text(ev, candidate, raw, ref)
        if written is not None:
            if not meanings:
                ev.used(hole.path[0].span, candidate)
            meanings.append(written)
            ev.trace.absorb(trace)
    if not meanings:
        if raw is None:
            _unknown(ev, hole, sink)
        elif not isinstance(raw, Broken):
            sink.error("FT060", f"`{'.'.join(path)}` is no text, number or name", hole.span)
        return None
    if any(other != meanings[0] for other in meanings[1:]):
        sink.error("FT041", f"`{'.'.join(path)}` could be two different values", hole.span, help="rename one of them")
    return meanings[0]


def _unknown(ev: Evaluator, hole: tree.Hole, sink: Sink) -> None:
    word = hole.path[0].text
    guess = closest(word, [*ev.names.stages, "name", "run", "stage"])
    label = f"did you mean `{guess}`?" if guess else ""
    help = "for a brace itself write `{{`; for the shell's variables `${NAME}`"
    sink.error("FT040", f"nothing here is called `{word}`", hole.span, label=label, help=help)


def _as_text(ev: Evaluator, found: Found, raw: Raw, node: tree.Ref) -> Written | None:
    match raw:
        case Str():
            return raw.parts
        case Num():
            return (raw.written,)
        case Lit():
            return ({True: "true", False: "false", None: "null"}[raw.value],)
        case Bare():
            return (raw.name,)
        case Stg():
            return (raw.ref if raw.ref.part else replace(raw.ref, part="path"),)
        case Invoke():
            return ev.as_text(found, raw, node)
    return None


def _variable(ev: Evaluator, raw: Invoke, hole: tree.Hole, sink: Sink) -> tuple[str, ...] | None:
    """`env()` is what the variable holds; a secret would be written down with the text."""
    if raw.name == "secret":
        text = f"`{hole.span.text}` is a secret, and would be written into the text"
        help = "give it to the environment, and let the shell read it: env { NAME = secret(…) }, and `${NAME}`"
        sink.error("FT060", text, hole.span, help=help)
        return None
    value = coerce(ev, raw, parse_type("text"), Key(name="env", type="text", empty=True), sink)
    return None if value is WRONG else (value,)


def call_as_text(ev: Evaluator, raw: Invoke) -> Written | None:
    """A model or data set in a string is its id or path; a member is its name."""
    for use in ("model", "data"):
        term = coerce(ev, raw, parse_type(use), Key(name=use, type=use), Sink())
        term = term[0] if isinstance(term, list) and len(term) == 1 else term
        if isinstance(term, Term):
            place = term.options.get("id") or term.options.get("path")
            return (place if isinstance(place, StageRef) else str(place),) if place else None
    return (raw.name,)


def where_written(
    ev: Evaluator, node: tree.Expression | Raw, place: Place, sink: Sink, seen: int = 0
) -> tuple[tree.Text, Place] | None:
    """The text that a script is, where it is written: names in it stay apart also behind the names of others."""
    if isinstance(node, tree.Text):
        return node, place
    if not isinstance(node, tree.Ref) or seen > MAX_NAMES:
        return None
    found = next(iter(ev.names.candidates(tuple(word.text for word in node.path), place)), None)
    value: tree.Expression | Raw | None = None
    if isinstance(found, LetFound):
        value, place = found.let.value, Place(found.module)
        if found.let.binder is tree.Binder.SWEPT:
            value = ev.swept(value, found.let.name.text, id(found.let), place, sink)
    elif isinstance(found, KeyFound) and (written := found.entry.value) is not None:
        entry = found.entry
        value, place = written, Place(entry.module, found.view, entry.path[:-1], entry.path)
        if entry.binder is tree.Binder.SWEPT:
            value = ev.swept(written, entry.path[-1], id(entry), place, sink)
    elif isinstance(found, ParamFound):
        value, place = ev.given.get(found.param.name.text, (found.param.default, Place(found.module)))
    return None if value is None else where_written(ev, value, place, sink, seen + 1)


def script(ev: Evaluator, node: tree.Text, place: Place, sink: Sink) -> Any:
    """The user's own code, with what its holes stand for still apart; WRONG where one stands for nothing."""
    parts: list[str | Slot] = []
    for part in node.parts:
        if isinstance(part, str):
            parts.append(part)
            continue
        name = ".".join(word.text for word in part.path)
        own = place.view is not None and name in ("stage.path", f"{place.view.name}.path")
        if own and place.view is not None:  # where its own result goes
            written: Written | None = (StageRef(place.view.name, "path", place.view.run),)
        else:
            written = _hole(ev, part, place, sink)
        if written is None:
            return WRONG
        parts.append(Slot(name, written))
    return Script(tuple(parts))
