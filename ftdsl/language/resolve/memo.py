"""Memoised values of names: each is evaluated once per assignment of axes, also if it has errors.

A name with an error is poisoned: its uses are wrong without messages of their own, and the cause is reported once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from ftdsl.diagnostics import Diagnostic, Sink
from ftdsl.language.resolve.trace import Trace
from ftdsl.record import frozen, mutable


@frozen
class Memo:
    """A result with its dependencies; `owner` keeps the objects of the key alive, so that their ids stay unique."""

    owner: object
    data: Any
    trace: Trace
    problems: tuple[Diagnostic, ...] = ()


@mutable
class _Open:
    """A name that is being evaluated. held: results that a cycle through this name made invalid; they are discarded when it
    closes. problems: their diagnostics. lowest: the depth of the outermost name that the evaluation reached."""

    key: Hashable
    held: list[Hashable] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    lowest: int = 0


class Memos:
    """Results by key: constants permanently, others for the same assignment of axes and stage."""

    def __init__(self) -> None:
        self._constant: dict[Hashable, Memo] = {}
        self._local: dict[Hashable, Memo] = {}
        self._lowest: dict[Hashable, int] = {}
        self._open: list[_Open] = []
        self._depths: dict[Hashable, int] = {}

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Evaluate with empty memos, for another assignment or stage."""
        kept = self._local, self._lowest, self._open, self._depths
        self._local, self._lowest, self._open, self._depths = {}, {}, [], {}
        try:
            yield
        finally:
            self._local, self._lowest, self._open, self._depths = kept

    def get(self, key: Hashable) -> Memo | None:
        memo = self._constant.get(key) or self._local.get(key)
        if memo is not None and self._open and key in self._lowest:
            self._reach(self._lowest[key])
        return memo

    def is_open(self, key: Hashable) -> bool:
        """Whether a name is being evaluated; if so, all names opened since depend on it."""
        at = self._depths.get(key)
        if at is not None:
            self._reach(at)
        return at is not None

    def evaluate(self, key: Hashable, owner: object, work: Callable[[Sink], tuple[Any, Trace]]) -> Memo:
        """Run `work` with the name open. The memo is kept, unless a cycle through an outer name made it invalid."""
        depth = len(self._open)
        opened = _Open(key, lowest=depth)
        self._open.append(opened)
        self._depths[key] = depth
        problems = Sink()
        try:
            data, trace = work(problems)
        finally:
            self._open.pop()
            del self._depths[key]
            for dependent in opened.held:
                self._local.pop(dependent, None)
                self._lowest.pop(dependent, None)
        memo = Memo(owner, data, trace, (*problems, *opened.problems))
        if opened.lowest >= depth:
            (self._constant if trace.constant else self._local)[key] = memo
        else:
            outer = self._open[opened.lowest]
            outer.held.append(key)
            outer.problems += memo.problems
            self._local[key], self._lowest[key] = memo, opened.lowest
            self._reach(opened.lowest)
        return memo

    @property
    def innermost(self) -> Hashable:
        """The key of the name opened last; None if none is open."""
        return self._open[-1].key if self._open else None

    def _reach(self, depth: int) -> None:
        if self._open:
            self._open[-1].lowest = min(self._open[-1].lowest, depth)
