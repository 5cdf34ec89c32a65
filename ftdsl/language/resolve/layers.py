"""Layers: what the file, the stage, the profiles and `--set` say, flattened to one entry a key; the stronger wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field

from ftdsl.catalog.vocabulary import BlockWords
from ftdsl.diagnostics import Diagnostic, Edit, Fix, Label, Sink, guessed
from ftdsl.language import tree
from ftdsl.language.resolve import foreign, words
from ftdsl.language.resolve.load import Module
from ftdsl.language.resolve.words import Path
from ftdsl.language.values import VARIABLE, Origin, OriginKind
from ftdsl.record import frozen, mutable, replace
from ftdsl.source import Span


@frozen
class Entry:
    """One key with its value, or (value None) a block that is there. `span` is the key's.

    guessed: nobody wrote this key; it is what a wrong one probably meant, so that nothing is said of what it lacks.
    """

    path: Path
    span: Span
    binder: tree.Binder
    value: tree.Expression | None
    origin: Origin
    module: Module
    guessed: bool = False

    @property
    def takes_back(self) -> bool:
        """`key = null`: back to what would be without it."""
        return isinstance(self.value, tree.Constant) and self.value.value is None and self.binder is tree.Binder.FIXED


@frozen
class Layer:
    """Entries of one strength, for a stage (`target` its name) or shared (target "")."""

    target: str
    entries: tuple[Entry, ...]


@frozen
class Flattener:
    """Turns items into entries: who speaks, seen from which module."""

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
        where = f"{self.via} ({span.where})" if self.via and self.kind == "profile" else self.via or span.where
        return Entry(path, span, binder, value, Origin(self.kind, where), self.module)


@mutable
class Effective:
    """What counts for one stage: entries by path (blocks that are there included), and what was taken back.

    `layers`: every entry that was laid here, weakest first, also those that no longer count.
    """

    kind: str
    entries: dict[Path, Entry] = field(default_factory=dict)
    taken_back: set[Path] = field(default_factory=set)
    layers: list[Entry] = field(default_factory=list)

    def put(self, layer: Sequence[Entry], sink: Sink | None = None) -> None:
        """Lay a stronger layer over this one; entries that mean nothing in this kind of stage are passed over."""
        own = [e for e in layer if e.takes_back or words.fits(self.kind, e.path, block=e.value is None)]
        fresh = {
            e.path[0]
            for e in own
            if len(e.path) == 1 and e.path[0] in words.methods() and not (e.takes_back or e.guessed)
        }
        if fresh:
            self._drop_methods(keep=fresh)
        for entry in own:
            self._put(entry)
        self._one_method(own, fresh, sink)

    def _put(self, entry: Entry) -> None:
        there = entry.value is None and entry.path in self.entries
        if entry.guessed and (there or self._other_method(entry.path[0])):
            return  # what is written counts, and a guess is no second method
        self.layers.append(entry)
        if entry.takes_back:
            for path in [p for p in self.entries if p[: len(entry.path)] == entry.path]:
                del self.entries[path]
            self.taken_back.add(entry.path)
            return
        for depth in range(1, len(entry.path)):
            block = entry.path[:depth]
            self.entries.setdefault(block, replace(entry, path=block, value=None, binder=tree.Binder.FIXED))
        self.taken_back.discard(entry.path)
        self.entries[entry.path] = entry

    def _other_method(self, word: str) -> bool:
        return word in words.methods() and any(path[0] in words.methods() - {word} for path in self.entries)

    def _drop_methods(self, keep: set[str]) -> None:
        gone = words.methods() - keep
        for path in [p for p in self.entries if p[0] in gone]:
            del self.entries[path]

    def _one_method(self, layer: Sequence[Entry], fresh: set[str], sink: Sink | None) -> None:
        there = [e for e in layer if len(e.path) == 1 and e.path[0] in fresh and e.path in self.entries]
        if sink is None or len(there) < 2:
            return
        first, second = there[0], there[1]
        sink.error(
            "FT623",
            f"`{second.path[0]}` beside `{first.path[0]}`: a stage trains with one method",
            second.span,
            labels=(Label(first.span, "the other method"),),
        )


def check(entries: Iterable[Entry], kind: str, sink: Sink) -> list[Entry]:
    """Report unknown keys, misplaced values and keys set twice; return the entries that can be used.

    A key that was probably meant is there without a value, so that what stands on it is not judged either.
    """
    seen: dict[Path, Entry] = {}
    good: list[Entry] = []
    meant: dict[Path, Path | None] = {}
    for entry in entries:
        outer = next((bad for bad in meant if entry.path[: len(bad)] == bad), None)
        problem = None if outer else _problem(entry, kind)
        if problem:
            sink.add(problem)
            meant[entry.path] = _meant(entry, kind)
        if outer or problem:
            guess = meant[outer or entry.path]
            if guess and (stand_in := _stand_in(entry, guess + entry.path[len(outer or entry.path) :], kind)):
                good.append(stand_in)
        elif first := seen.get(entry.path):
            here = Label(first.span, "first set here")
            sink.error("FT006", f"`{'.'.join(entry.path)}` is set twice", entry.span, labels=(here,))
        else:
            seen[entry.path] = entry
            good.append(entry)
    return [entry for entry in good if not (entry.guessed and entry.path in seen)]


def _problem(entry: Entry, kind: str) -> Diagnostic | None:
    known = words.find(kind, entry.path)
    if known is None:
        return _unknown(entry, kind)
    name = ".".join(entry.path)
    if entry.path[-2:-1] == ("env",) and not VARIABLE.fullmatch(entry.path[-1]):
        text = f"`{entry.path[-1]}` is no name of an environment variable"
        return Diagnostic("FT046", text, entry.span, help="letters, digits and `_`, no digit first")
    if words.fits(kind, entry.path, block=entry.value is None):
        return None
    if isinstance(known, BlockWords) and entry.value is not None and not entry.takes_back:
        return Diagnostic("FT060", f"`{name}` is a block", entry.span, help=f"write `{entry.path[-1]} {{ … }}`")
    if not isinstance(known, BlockWords) and entry.value is None and known.type != "any":
        return Diagnostic("FT060", f"`{name}` is a key, not a block", entry.span, help=f"write `{entry.path[-1]} = …`")
    return None


def _meant(entry: Entry, kind: str) -> Path | None:
    """The path that a wrong one most likely stands for."""
    if words.find(kind, entry.path) is not None:
        return entry.path
    depth = next(d for d in range(1, len(entry.path) + 1) if words.find(kind, entry.path[:d]) is None)
    word, outer = entry.path[depth - 1], entry.path[: depth - 1]
    if not outer and (homes := words.homes(kind, word)):
        return (homes[0], word)
    if found := foreign.known(kind, word, entry.value):
        return found.path or None
    within = words.find(kind, outer)
    guess = words.near(kind, word, within if isinstance(within, BlockWords) else None)
    return (*outer, guess) if guess else None


def _stand_in(entry: Entry, path: Path, kind: str) -> Entry | None:
    """The entry of a path without its value; None where the path is nothing either."""
    known = words.find(kind, path)
    if known is None:
        return None
    value = None if isinstance(known, BlockWords) else tree.Missing(entry.span)
    return replace(entry, path=path, value=value, binder=tree.Binder.FIXED, guessed=True)


def _unknown(entry: Entry, kind: str) -> Diagnostic:
    depth = next(d for d in range(1, len(entry.path) + 1) if words.find(kind, entry.path[:d]) is None)
    word, outer = entry.path[depth - 1], entry.path[: depth - 1]
    within = words.find(kind, outer)
    block = within if isinstance(within, BlockWords) else None
    where = f"`{outer[-1]}`" if outer else ("a recipe" if kind == "file" else f"`{kind}`")
    span = _word_span(entry.span, depth, len(entry.path))
    if not outer and (homes := words.homes(kind, word)):
        home = homes[0]
        moved = Fix(f"write `{home}.{word}`", (Edit(span, f"{home}.{word}"),), safe=len(homes) == 1)
        help = f"write `{home} {{ {word} = … }}`"
        return Diagnostic("FT001", f"{where} has no key `{word}`", span, help=help, fix=moved if entry.value else None)
    if found := foreign.known(kind, word, entry.value):
        return _foreign(entry, found, where, word, span, outer)
    guess = words.near(kind, word, block)
    if not outer and guess is None and (kinds := words.kinds_with(word)):
        return Diagnostic("FT005", f"`{word}` does not belong in {where}", span, help=f"it is for {_list(kinds)}")
    fix = guessed(span, guess)
    label = f"did you mean `{guess}`?" if guess else ""
    return Diagnostic("FT001", f"{where} has no key `{word}`", span, label=label, help=_keys_here(kind, block), fix=fix)


def _foreign(entry: Entry, found: foreign.Known, where: str, word: str, span: Span, outer: Path) -> Diagnostic:
    """A key of another tool, with the line that says the same here."""
    key = ".".join(found.path)
    help = f"write `{found.line or f'{key} = …'}`" if key or found.line else f"`{word}`: {found.why}"
    whole = span.to(entry.value.span) if entry.value is not None else span
    simple = entry.path == (*outer, word) and entry.binder is tree.Binder.FIXED
    fix = foreign.mended(found, outer, whole) if simple else None
    return Diagnostic("FT001", f"{where} has no key `{word}`", span, label=found.why, help=help, fix=fix)


def _word_span(span: Span, depth: int, total: int) -> Span:
    """The span of one word of a dotted key that spans `span` (blocks' entries have one word only)."""
    parts = span.text.split(".")
    index = depth - 1 - (total - len(parts))
    if len(parts) == 1 or not 0 <= index < len(parts):
        return span
    start = span.start + sum(len(part) + 1 for part in parts[:index])
    return Span(span.source, start, start + len(parts[index]))


def _keys_here(kind: str, block: BlockWords | None) -> str:
    names = list(block.keys) if block else list(words.keys(kind))
    shown = ", ".join(names[:12])
    return f"keys here: {shown}{', …' if len(names) > 12 else ''}" if names else ""


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:6])
