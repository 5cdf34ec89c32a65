"""Flattens the items of a block to entries by dotted path, and checks them: unknown keys, blocks as values, duplicate keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ftdsl.catalog.vocabulary import BlockWords
from ftdsl.diagnostics import Diagnostic, Edit, Fix, Label, Sink, guessed
from ftdsl.language import tree
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.keys import Path
from ftdsl.language.resolve.layers import Entry
from ftdsl.language.resolve.load import Module
from ftdsl.language.values import VARIABLE, Origin, OriginKind
from ftdsl.record import frozen, replace
from ftdsl.source import Span

if TYPE_CHECKING:
    from ftdsl.language.resolve.foreign import Equivalent


@frozen
class Flattener:
    """Turns items into entries of one origin and module."""

    kind: OriginKind
    module: Module
    via: str = ""

    def entries(self, items: Iterable[tree.Item], prefix: Path = ()) -> Iterator[Entry]:
        for item in items:
            if isinstance(item, tree.Bind):
                path = (*prefix, *(word.text for word in item.key))
                yield self._entry(path, item.key[0].span.to(item.key[-1].span), item.binder, item.value)
            elif isinstance(item, tree.Block):
                path = (*prefix, item.kind.text)
                yield self._entry(path, item.kind.span, tree.Binder.FIXED, None)
                yield from self.entries(item.body, path)

    def _entry(self, path: Path, span: Span, binder: tree.Binder, value: tree.Expression | None) -> Entry:
        location = f"{self.via} ({span.location})" if self.via and self.kind == "profile" else self.via or span.location
        return Entry(path, span, binder, value, Origin(self.kind, location), self.module)


def check(entries: Iterable[Entry], kind: str, sink: Sink) -> list[Entry]:
    """Report unknown keys, misplaced values and duplicate keys; return the usable entries.

    For an unknown key, the key that was probably meant is added without a value, so that checks do not report it as missing.
    """
    seen: dict[Path, Entry] = {}
    usable: list[Entry] = []
    replacements: dict[Path, Path | None] = {}
    for entry in entries:
        outer = next((bad for bad in replacements if entry.path[: len(bad)] == bad), None)
        problem = None if outer else _problem(entry, kind)
        if problem:
            sink.add(problem)
            replacements[entry.path] = _probable_path(entry, kind)
        if outer or problem:
            guess = replacements[outer or entry.path]
            if guess and (placeholder := _placeholder(entry, guess + entry.path[len(outer or entry.path) :], kind)):
                usable.append(placeholder)
        elif first := seen.get(entry.path):
            label = Label(first.span, "first set here")
            sink.error("FT006", f"`{'.'.join(entry.path)}` is set twice", entry.span, labels=(label,))
        else:
            seen[entry.path] = entry
            usable.append(entry)
    return [entry for entry in usable if not (entry.guessed and entry.path in seen)]


def _problem(entry: Entry, kind: str) -> Diagnostic | None:
    definition = keys.find(kind, entry.path)
    if definition is None:
        return _unknown(entry, kind)
    name = ".".join(entry.path)
    if entry.path[-2:-1] == ("env",) and not VARIABLE.fullmatch(entry.path[-1]):
        text = f"`{entry.path[-1]}` is not a valid name of an environment variable"
        return Diagnostic("FT046", text, entry.span, help="use letters, digits and `_`, not starting with a digit")
    if keys.fits(kind, entry.path, block=entry.value is None):
        return None
    if isinstance(definition, BlockWords) and entry.value is not None and not entry.is_reset:
        return Diagnostic("FT060", f"`{name}` is a block", entry.span, help=f"write `{entry.path[-1]} {{ … }}`")
    if not isinstance(definition, BlockWords) and entry.value is None and definition.type != "any":
        return Diagnostic("FT060", f"`{name}` is a key, not a block", entry.span, help=f"write `{entry.path[-1]} = …`")
    return None


def _probable_path(entry: Entry, kind: str) -> Path | None:
    """The path that was probably meant."""
    from ftdsl.language.resolve import foreign

    if keys.find(kind, entry.path) is not None:
        return entry.path
    depth = next(d for d in range(1, len(entry.path) + 1) if keys.find(kind, entry.path[:d]) is None)
    word, outer = entry.path[depth - 1], entry.path[: depth - 1]
    if not outer and (homes := keys.homes(kind, word)):
        return (homes[0], word)
    if equivalent := foreign.equivalent_of(kind, word, entry.value):
        return equivalent.path or None
    within = keys.find(kind, outer)
    guess = keys.near(kind, word, within if isinstance(within, BlockWords) else None)
    return (*outer, guess) if guess else None


def _placeholder(entry: Entry, path: Path, kind: str) -> Entry | None:
    """An entry for the path without a value; None if the path is unknown too."""
    definition = keys.find(kind, path)
    if definition is None:
        return None
    value = None if isinstance(definition, BlockWords) else tree.Missing(entry.span)
    return replace(entry, path=path, value=value, binder=tree.Binder.FIXED, guessed=True)


def _unknown(entry: Entry, kind: str) -> Diagnostic:
    from ftdsl.language.resolve import foreign  # tables that a valid recipe never needs

    depth = next(d for d in range(1, len(entry.path) + 1) if keys.find(kind, entry.path[:d]) is None)
    word, outer = entry.path[depth - 1], entry.path[: depth - 1]
    within = keys.find(kind, outer)
    block = within if isinstance(within, BlockWords) else None
    owner = f"`{outer[-1]}`" if outer else ("a recipe" if kind == "file" else f"`{kind}`")
    span = _word_span(entry.span, depth, len(entry.path))
    if not outer and (homes := keys.homes(kind, word)):
        home = homes[0]
        moved = Fix(f"write `{home}.{word}`", (Edit(span, f"{home}.{word}"),), safe=len(homes) == 1)
        help = f"write `{home} {{ {word} = … }}`"
        return Diagnostic("FT001", f"{owner} has no key `{word}`", span, help=help, fix=moved if entry.value else None)
    if equivalent := foreign.equivalent_of(kind, word, entry.value):
        return _foreign(entry, equivalent, owner, word, span, outer)
    guess = keys.near(kind, word, block)
    if not outer and guess is None and (kinds := keys.kinds_with(word)):
        return Diagnostic("FT005", f"{owner} does not take `{word}`", span, help=f"only in {_list(kinds)}")
    fix = guessed(span, guess)
    label = f"did you mean `{guess}`?" if guess else ""
    return Diagnostic("FT001", f"{owner} has no key `{word}`", span, label=label, help=_keys_here(kind, block), fix=fix)


def _foreign(entry: Entry, equivalent: Equivalent, owner: str, word: str, span: Span, outer: Path) -> Diagnostic:
    """Report a key of another tool, with the equivalent line."""
    from ftdsl.language.resolve import foreign

    key = ".".join(equivalent.path)
    inside = f"{'.'.join(outer)}." if outer else "\0"
    help = (
        f"write `{(equivalent.line or f'{key} = …').removeprefix(inside)}`"
        if key or equivalent.line
        else f"`{word}`: {equivalent.why}"
    )
    whole = span.to(entry.value.span) if entry.value is not None else span
    simple = entry.path == (*outer, word) and entry.binder is tree.Binder.FIXED
    fix = foreign.fix_of(equivalent, outer, whole) if simple else None
    label = equivalent.why if equivalent.why not in _OF_NO_TOOL else ""
    return Diagnostic("FT001", f"{owner} has no key `{word}`", span, label=label, help=help, fix=fix)


_OF_NO_TOOL = ("no tool has it", "no flag of this engine", "the name in a recipe")
"""What a table says of names that people write by habit, which helps nobody in a recipe."""


def _word_span(span: Span, depth: int, total: int) -> Span:
    """The span of one part of a dotted key with span `span` (entries of blocks have a single part)."""
    parts = span.text.split(".")
    index = depth - 1 - (total - len(parts))
    if len(parts) == 1 or not 0 <= index < len(parts):
        return span
    start = span.start + sum(len(part) + 1 for part in parts[:index])
    return Span(span.source, start, start + len(parts[index]))


def _keys_here(kind: str, block: BlockWords | None) -> str:
    names = list(block.keys) if block else list(keys.keys_of(kind))
    shown = ", ".join(names[:12])
    return f"keys here: {shown}{', …' if len(names) > 12 else ''}" if names else ""


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:6])
