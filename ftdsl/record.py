"""Plain records: classes of named fields that cost nothing to define. Imports nothing of ftdsl.

`dataclasses` writes and compiles source for every class: 0.15 ms for `__init__` alone, 0.5 ms frozen with slots. A cold
`ftc check` defines a hundred of them and has 120 ms for everything (docs/adr/0003). These share one `__init__`; type
checkers see them as data classes, and it is they who hold the fields, since nothing is checked here while a recipe runs.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, field
from inspect import get_annotations
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Compares by identity; is not to be changed."""
    return _with_init(cls)


@dataclass_transform(eq_default=False, field_specifiers=(field,))
def mutable(cls: type[T]) -> type[T]:
    """Compares by identity; may change."""
    return _with_init(cls)


@dataclass_transform(frozen_default=True, eq_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Compares, hashes and prints by what it holds; is not to be changed."""
    names = _with_init(cls).__match_args__  # type: ignore[attr-defined]

    def content(self: Any) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in names)

    def equal(self: Any, other: object) -> bool:
        return type(self) is type(other) and content(self) == content(other)

    def hashed(self: Any) -> int:
        return hash(content(self))

    def printed(self: Any) -> str:
        return f"{cls.__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    own_hash = cls.__dict__.get("__hash__")
    cls.__eq__ = equal  # type: ignore[method-assign]
    cls.__hash__ = own_hash or hashed  # type: ignore[method-assign]
    cls.__repr__ = printed  # type: ignore[method-assign]
    return cls


def changed(one: T, **values: Any) -> T:
    """A copy with other values."""
    names: tuple[str, ...] = type(one).__match_args__  # type: ignore[attr-defined]
    return type(one)(**{name: getattr(one, name) for name in names} | values)


def _with_init(cls: type[T]) -> type[T]:
    own = get_annotations(cls)
    fields = {name: cls.__dict__[name] for name in own if isinstance(cls.__dict__.get(name), Field)}
    names = tuple(name for name in own if name not in fields or fields[name].init)
    factories = {name: one.default_factory for name, one in fields.items() if one.default_factory is not MISSING}
    needed = frozenset(name for name in names if name not in factories and (name in fields or name not in cls.__dict__))
    for name in fields:
        delattr(cls, name)

    def init(self: Any, *args: Any, **given: Any) -> None:
        attributes = self.__dict__
        attributes.update(zip(names, args, strict=False))
        attributes.update(given)
        if len(attributes) < len(names):
            for name, factory in factories.items():
                if name not in attributes:
                    attributes[name] = factory()
            if missing := needed - attributes.keys():
                raise TypeError(f"{cls.__name__} needs {', '.join(sorted(missing))}")

    cls.__init__ = init  # type: ignore[method-assign]
    cls.__match_args__ = names  # type: ignore[misc, attr-defined]
    return cls
