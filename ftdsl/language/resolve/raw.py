"""Values before conversion to a type: numbers with units, texts, unevaluated calls, unresolved names."""

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
    """The result of a failed conversion; the reason is in the sink."""

    def __repr__(self) -> str:
        return "WRONG"


WRONG: Final[Any] = _Wrong()


@frozen
class Num:
    """A number in base units (bytes, seconds, shares of 1); `written` is its source text."""

    number: float
    dimension: Dimension
    written: str
    span: Span


@frozen
class Str:
    """A text; a part that is a StageRef is filled in after the stage has run."""

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
    """A list; `size`: the number of its items with those of nested lists."""

    items: tuple[Raw, ...]
    span: Span
    size: int


@frozen
class Bare:
    """A name that is not in scope; it may be a member of the expected type."""

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
    """A call, with the scope of its arguments."""

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
    """A term that needs no conversion (the representative of a searched value)."""

    value: Any
    span: Span


@frozen
class Broken:
    """A value with an error; already reported."""

    span: Span


Raw: TypeAlias = Num | Str | Lit | Lst | Bare | Stg | Invoke | Between | Choice | Broken


def same(left: Raw, right: Raw) -> bool:
    """Whether two raw values are equal, ignoring spans."""
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
