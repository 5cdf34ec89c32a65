"""Records are as strict as data classes: no unknown, surplus, repeated or missing argument, no change of a frozen one."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import pytest

from ftdsl.record import HOT, frozen, mutable, replace


@frozen(eq=True)
class Point:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


@frozen
class Identity:
    x: int


@mutable
class Counter:
    count: int = 0


@pytest.mark.parametrize(
    ("args", "given", "message"),
    [
        ((), {"x": 1, "z": 2}, "Point has no field z"),
        ((1, 2, [], 4), {}, "Point takes 3 values, not 4"),
        ((1,), {"x": 2}, "Point was given x twice"),
        ((), {"y": 2}, "Point needs x"),
    ],
)
def test_arguments_are_held_to_the_fields(args: tuple[Any, ...], given: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Point(*args, **given)


def test_a_frozen_record_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(TypeError, match="Point is frozen: `x` cannot be changed"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="frozen"):
        del point.x
    counter = Counter()
    counter.count += 1
    assert counter.count == 1


def test_what_compares_by_content_and_what_by_identity() -> None:
    assert Point(1, 2) == Point(1, 2) != Point(1, 3)
    assert Identity(1) != Identity(1)
    assert repr(Point(1)) == "Point(x=1, y=0, tags=[])"
    assert repr(Identity(2)) == "Identity(x=2)"


@pytest.mark.parametrize("instances", [0, HOT], ids=["few", "many"])
def test_many_instances_change_nothing(instances: int) -> None:
    """A class with many instances gets an `__init__` of its own."""

    @frozen
    class Row:
        a: int
        b: int = 5
        made: list[int] = field(default_factory=list)
        c: str = "c"

    @frozen
    class Late:
        a: int = 1
        b: int  # type: ignore[misc]  # without a default after one that has one

    for number in range(instances):
        Row(number)
        Late(b=number)
    row, other = Row(1, c="d"), Row(b=2, a=1)
    assert (row.a, row.b, row.made, row.c) == (1, 5, [], "d")
    assert (other.a, other.b, other.made, other.c) == (1, 2, [], "c")
    assert row.made is not other.made
    assert (Late(b=3).a, Late(2, 3).a) == (1, 2)
    for args, given in [((), {"b": 1}), ((1,), {"a": 2}), ((1,), {"z": 2}), ((1, 2, [], "c", 5), {})]:
        with pytest.raises(TypeError, match="Row"):
            Row(*args, **given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Late needs b"):
        Late(1)  # type: ignore[call-arg]


def test_a_copy_with_other_values() -> None:
    assert replace(Point(1, 2), y=5) == Point(1, 5)
    with pytest.raises(TypeError, match="no field z"):
        replace(Point(1), z=2)
