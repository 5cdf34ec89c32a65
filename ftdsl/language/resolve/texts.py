"""Texts: interpolation of holes (`{name}`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftdsl.catalog.vocabulary import Key
from ftdsl.diagnostics import Sink
from ftdsl.diagnostics.suggest import closest
from ftdsl.language import tree
from ftdsl.language.resolve.coerce import FILES, coerce, part_exists
from ftdsl.language.resolve.names import KeySymbol, LetSymbol, ParamSymbol, Scope, StageSymbol, Symbol
from ftdsl.language.resolve.raw import WRONG, Bare, Broken, Invoke, Lit, Num, Raw, Stg, Str
from ftdsl.language.types import parse_type
from ftdsl.language.values import Script, Slot, StageRef, Term
from ftdsl.record import replace

if TYPE_CHECKING:
    from ftdsl.language.resolve.evaluate import Evaluator

MAX_NAMES = 100
"""Maximum length of a chain of names that leads to a script."""

MAX_TEXT = 2**16
"""Maximum characters of an interpolated text, since names could double a text exponentially."""

Written = tuple[str | StageRef, ...]
"""A text in parts; results of stages are filled in after they have run."""


def text(ev: Evaluator, node: tree.Text, scope: Scope, sink: Sink) -> Raw:
    """A text with its holes filled; results of stages stay references."""
    parts: list[str | StageRef] = []
    for part in node.parts:
        written = (part,) if isinstance(part, str) else _hole(ev, part, scope, sink)
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


def _hole(ev: Evaluator, hole: tree.Hole, scope: Scope, sink: Sink) -> Written | None:
    path = tuple(word.text for word in hole.path)
    if scope.view and path in (("run",), ("stage",)):
        ev.trace.local = True
        run = ",".join(filter(None, (scope.view.run, ev.trial_run)))
        return (run if path == ("run",) else scope.view.name,)
    ref = tree.Ref(hole.path, hole.span)
    meanings: list[Written] = []
    raw: Raw | None = None
    for symbol in ev.names.candidates(path, scope):
        with ev.tracing() as trace:
            raw = ev.look_up(symbol, ref, sink if isinstance(symbol, StageSymbol) else Sink())
            if isinstance(raw, Invoke) and raw.name in ("env", "secret"):
                ev.used(hole.path[0].span, symbol)
                return _variable(ev, raw, hole, sink)
            if isinstance(raw, Stg) and not part_exists(ev, raw, FILES, sink):
                return None
            written = _as_text(ev, symbol, raw, ref)
        if written is not None:
            if not meanings:
                ev.used(hole.path[0].span, symbol)
            meanings.append(written)
            ev.trace.absorb(trace)
    if not meanings:
        if raw is None:
            _unknown(ev, hole, sink)
        elif not isinstance(raw, Broken):
            sink.error("FT060", f"`{'.'.join(path)}` is not a text, number or name", hole.span)
        return None
    if any(other != meanings[0] for other in meanings[1:]):
        sink.error("FT041", f"`{'.'.join(path)}` could be two different values", hole.span, help="rename one of them")
    return meanings[0]


def _unknown(ev: Evaluator, hole: tree.Hole, sink: Sink) -> None:
    word = hole.path[0].text
    guess = closest(word, [*ev.names.stages, "name", "run", "stage"])
    label = f"did you mean `{guess}`?" if guess else ""
    help = "write `{{` for a brace, `${NAME}` for a variable of the shell"
    sink.error("FT040", f"unknown name `{word}`", hole.span, label=label, help=help)


def _as_text(ev: Evaluator, symbol: Symbol, raw: Raw, node: tree.Ref) -> Written | None:
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
            return ev.as_text(symbol, raw, node)
    return None


def _variable(ev: Evaluator, raw: Invoke, hole: tree.Hole, sink: Sink) -> tuple[str, ...] | None:
    """The value of `env()` in a text; a secret is refused, since the text is written to files."""
    if raw.name == "secret":
        text = f"`{hole.span.text}` is a secret, and would be written with the text"
        help = "pass it in the environment: env { NAME = secret(…) }, and write `${NAME}`"
        sink.error("FT060", text, hole.span, help=help)
        return None
    value = coerce(ev, raw, parse_type("text"), Key(name="env", type="text", empty=True), sink)
    return None if value is WRONG else (value,)


def call_as_text(ev: Evaluator, raw: Invoke) -> Written | None:
    """A model or data set in a text is its id or path; a member is its name."""
    for use in ("model", "data"):
        term = coerce(ev, raw, parse_type(use), Key(name=use, type=use), Sink())
        term = term[0] if isinstance(term, list) and len(term) == 1 else term
        if isinstance(term, Term):
            path = term.options.get("id") or term.options.get("path")
            return (path if isinstance(path, StageRef) else str(path),) if path else None
    return (raw.name,)


def literal_script(
    ev: Evaluator, node: tree.Expression | Raw, scope: Scope, sink: Sink, depth: int = 0
) -> tuple[tree.Text, Scope] | None:
    """The literal text and scope of a script, following names, so that its holes can be kept separate."""
    if isinstance(node, tree.Text):
        return node, scope
    if not isinstance(node, tree.Ref) or depth > MAX_NAMES:
        return None
    symbol = next(iter(ev.names.candidates(tuple(word.text for word in node.path), scope)), None)
    value: tree.Expression | Raw | None = None
    if isinstance(symbol, LetSymbol):
        value, scope = symbol.let.value, Scope(symbol.module)
        if symbol.let.binder is tree.Binder.SWEPT:
            value = ev.swept(value, symbol.let.name.text, id(symbol.let), scope, sink)
    elif isinstance(symbol, KeySymbol) and (written := symbol.entry.value) is not None:
        entry = symbol.entry
        value, scope = written, Scope(entry.module, symbol.view, entry.path[:-1], entry.path)
        if entry.binder is tree.Binder.SWEPT:
            value = ev.swept(written, entry.path[-1], id(entry), scope, sink)
    elif isinstance(symbol, ParamSymbol):
        value, scope = ev.given.get(symbol.param.name.text, (symbol.param.default, Scope(symbol.module)))
    return None if value is None else literal_script(ev, value, scope, sink, depth + 1)


def script(ev: Evaluator, node: tree.Text, scope: Scope, sink: Sink) -> Any:
    """The user's script with the values of its holes kept separate; WRONG if a hole has no value."""
    parts: list[str | Slot] = []
    for part in node.parts:
        if isinstance(part, str):
            parts.append(part)
            continue
        name = ".".join(word.text for word in part.path)
        is_own_path = scope.view is not None and name in ("stage.path", f"{scope.view.name}.path")
        if is_own_path and scope.view is not None:  # the path of its own result
            written: Written | None = (StageRef(scope.view.name, "path", scope.view.run),)
        else:
            written = _hole(ev, part, scope, sink)
        if written is None:
            return WRONG
        parts.append(Slot(name, written))
    return Script(tuple(parts))
