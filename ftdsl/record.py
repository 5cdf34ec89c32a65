"""Records: classes of named fields that are cheap to define. Imports nothing of ftdsl.

`dataclasses` writes and compiles source for every class: 0.15 ms for `__init__` alone, 0.5 ms frozen with slots. A cold
`ftc check` defines a hundred of them, and must take less than 120 ms in total (docs/adr/0003). Records share one `__init__`, and
are as strict: an unknown, surplus, duplicate or missing argument is a TypeError, and so is an assignment to a frozen field. Type
checkers treat them as data classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, field
from inspect import get_annotations
from typing import Any, ClassVar, NoReturn, TypeVar, dataclass_transform, overload

T = TypeVar("T")

HOT = 200
"""Instances of a class after which it gets an `__init__` of its own; compiling one takes as long as they save."""


@overload
def frozen(cls: type[T], /) -> type[T]: ...


@overload
def frozen(*, eq: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def frozen(cls: type[T] | None = None, /, *, eq: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """Fields cannot be assigned. Compares and hashes by identity; with `eq=True` by type and content."""

    def made(cls: type[T]) -> type[T]:
        _with_init(cls)
        cls.__setattr__ = cls.__delattr__ = _refuse_change  # type: ignore[method-assign]
        return _comparing(cls) if eq else cls

    return made(cls) if cls is not None else made


@dataclass_transform(eq_default=False, field_specifiers=(field,))
def mutable(cls: type[T]) -> type[T]:
    """Fields may be assigned. Compares by identity."""
    return _with_init(cls)


def replace(instance: T, **values: Any) -> T:
    """A copy with other values. Raises: TypeError for an unknown field."""
    names: tuple[str, ...] = type(instance).__match_args__  # type: ignore[attr-defined]
    return type(instance)(**{name: getattr(instance, name) for name in names} | values)


def _comparing(cls: type[T]) -> type[T]:
    def content(self: Any) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def equal(self: Any, other: object) -> bool:
        return type(self) is type(other) and content(self) == content(other)

    def hashed(self: Any) -> int:
        return hash(content(self))

    own_hash = cls.__dict__.get("__hash__")
    cls.__eq__ = equal  # type: ignore[method-assign]
    cls.__hash__ = own_hash or hashed  # type: ignore[method-assign]
    return cls


def _shown(self: Any) -> str:
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__name__}({fields})"


def _refuse_change(self: Any, name: str, *_value: Any) -> NoReturn:
    raise TypeError(f"{type(self).__name__} is frozen: `{name}` cannot be changed")


def _with_init(cls: type[T]) -> type[T]:
    own = get_annotations(cls)
    own = {name: kind for name, kind in own.items() if not str(kind).startswith("ClassVar") and kind is not ClassVar}
    fields = {name: cls.__dict__[name] for name in own if isinstance(cls.__dict__.get(name), Field)}
    names = tuple(name for name in own if name not in fields or fields[name].init)
    known, calls = frozenset(names), 0
    factories = {name: made.default_factory for name, made in fields.items() if made.default_factory is not MISSING}
    needed = frozenset(name for name in names if name not in factories and (name in fields or name not in cls.__dict__))
    for name in fields:
        delattr(cls, name)

    def init(self: Any, *args: Any, **given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == HOT and cls.__dict__["__init__"] is init:
            cls.__init__ = _compiled(cls, names, needed, factories)  # type: ignore[method-assign]
        attributes = self.__dict__
        attributes.update(zip(names, args, strict=False))
        attributes.update(given)
        if len(attributes) != len(args) + len(given) or not given.keys() <= known:
            raise TypeError(_misused(cls, names, args, given))
        if len(attributes) < len(names):
            for name, factory in factories.items():
                if name not in attributes:
                    attributes[name] = factory()
            if missing := needed - attributes.keys():
                raise TypeError(f"{cls.__name__} needs {', '.join(sorted(missing))}")

    cls.__init__ = init  # type: ignore[method-assign]
    cls.__match_args__ = names  # type: ignore[misc, attr-defined]
    if "__repr__" not in cls.__dict__:
        cls.__repr__ = _shown  # type: ignore[method-assign]
    return cls


def _compiled(
    cls: type, names: tuple[str, ...], needed: frozenset[str], factories: dict[str, Callable[[], Any]]
) -> Callable[..., None]:
    """An `__init__` of its own for a class with many instances: four times as fast, and 0.15 ms to compile."""
    absent = object()
    defaults = {name: absent if name in factories else cls.__dict__.get(name) for name in names if name not in needed}
    parameters = [name if name in needed else f"{name}=_defaults[{name!r}]" for name in names]
    keyword_only = next((at for at, name in enumerate(names) if name in needed and set(names[:at]) - needed), None)
    if keyword_only is not None:  # a field without a default after one that has one: the shared `__init__` allows it
        return cls.__init__  # type: ignore[misc, no-any-return]
    lines = [
        f" _attributes[{name!r}] = _factories[{name!r}]() if {name} is _absent else {name}"
        if name in factories
        else f" _attributes[{name!r}] = {name}"
        for name in names
    ]
    source = "\n".join([f"def __init__({', '.join(['self', *parameters])}):", " _attributes = self.__dict__", *lines])
    scope: dict[str, Any] = {"_absent": absent, "_defaults": defaults, "_factories": factories}
    exec(source, scope)
    made: Callable[..., None] = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"  # as errors name it
    return made


def _misused(cls: type, names: tuple[str, ...], args: tuple[Any, ...], given: dict[str, Any]) -> str:
    if len(args) > len(names):
        return f"{cls.__name__} takes {len(names)} values, not {len(args)}"
    if unknown := sorted(given.keys() - set(names)):
        return f"{cls.__name__} has no field {', '.join(unknown)}"
    return f"{cls.__name__} was given {', '.join(sorted(given.keys() & set(names[: len(args)])))} twice"
