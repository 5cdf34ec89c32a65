"""Values before a type is wanted of them: numbers with their unit, texts, calls not yet looked into, bare names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ftdsl.language import tree
from ftdsl.language.units import Dimension
from ftdsl.language.values import StageRef
from ftdsl.record import frozen
from ftdsl.source import Span

if TYPE_CHECKING:
    from ftdsl.language.resolve.names import Scope


class _Wrong:
    """The result of what could not be resolved; the reason is in the sink."""

    def __repr__(self) -> str:
        return "WRONG"


WRONG: Final[Any] = _Wrong()


@frozen
class Num:
    """A number in base units (bytes, seconds, shares of 1); `written` is how the recipe says it."""

    number: float
    dimension: Dimension
    written: str
    span: Span


@frozen
class Str:
    """A text; a part that is a StageRef is filled in when the stage's result is known."""

    parts: tuple[str | StageRef, ...]
    span: Span

    @property
    def plain(self) -> str | None:
        return "".join(str(p) for p in self.parts) if all(isinstance(p, str) for p in self.parts) else None


@frozen
class Lit:
    """`true`, `false` or `null`."""

    value: bool | None
    span: Span


@frozen
class Lst:
    """`size`: its items, those of lists in it counted."""

    items: tuple[Raw, ...]
    span: Span
    size: int


@frozen
class Bare:
    """A name nothing in scope answers to: perhaps a member of the type wanted."""

    path: tuple[tree.Word, ...]
    span: Span

    @property
    def name(self) -> str:
        return ".".join(word.text for word in self.path)


@frozen
class Stg:
    """A stage, or a part of one."""

    ref: StageRef
    span: Span


@frozen
class Invoke:
    """A call, with the place its arguments are seen from."""

    call: tree.Call
    scope: Scope
    span: Span

    @property
    def name(self) -> str:
        return ".".join(word.text for word in self.call.path)


@frozen
class Between:
    low: Raw
    high: Raw
    span: Span


@frozen
class Choice:
    """A term already made (the representative of a searched value)."""

    value: Any
    span: Span


@frozen
class Broken:
    """Could not be read; already reported."""

    span: Span


Raw: TypeAlias = Num | Str | Lit | Lst | Bare | Stg | Invoke | Between | Choice | Broken


def same(left: Raw, right: Raw) -> bool:
    """Whether two raw values are the same value, wherever they were written."""
    match left, right:
        case Num(), Num():
            return (left.number, left.dimension) == (right.number, right.dimension)
        case Str(), Str():
            return left.parts == right.parts
        case Lit(), Lit():
            return left.value is right.value
        case Stg(), Stg():
            return left.ref == right.ref
        case Lst(), Lst():
            return len(left.items) == len(right.items) and all(map(same, left.items, right.items))
        case Bare(), Bare():
            return left.name == right.name
        case Invoke(), Invoke():
            return left.call is right.call or left.span.text == right.span.text
    return False
