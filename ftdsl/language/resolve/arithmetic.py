"""Arithmetic on quantities: `2 * rank`, `512 * 512`, `1h + 30min`."""

from __future__ import annotations

from collections.abc import Callable
from operator import add, mul, sub, truediv

from ftdsl.diagnostics import Sink
from ftdsl.language import tree
from ftdsl.language.resolve.raw import Broken, Num, Raw
from ftdsl.language.units import ALL_UNITS, Dimension, exact, unit_of
from ftdsl.source import Span


def quantity(node: tree.Quantity, sink: Sink) -> Raw:
    """The number in base units; an unknown unit is reported with the closest one."""
    unit = unit_of(node.unit)
    if unit is None:
        from ftdsl.diagnostics.suggest import closest

        guess = closest(node.unit, ALL_UNITS) or {"kb": "KB", "mb": "MB", "gb": "GB", "m": "min", "K": "k"}.get(
            node.unit
        )
        label = f"did you mean `{guess}`?" if guess else ""
        sink.error("FT061", f"unknown unit `{node.unit}`", node.unit_span, label=label, help=_units_help())
        return Broken(node.span)
    number = _number(node.number)
    if number is None:
        sink.error("FT003", f"`{node.number}` is too large", node.span)
        return Broken(node.span)
    return Num(exact(number * unit.factor), unit.dimension, node.span.text, node.span)


def _number(text: str) -> float | None:
    digits = text.replace("_", "")
    try:
        number = int(digits) if digits.isdigit() and len(digits) < 19 else float(digits)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e300 else None


def _units_help() -> str:
    return "units: k M B, Ki Mi Gi, KB MB GB, s min h d, %, epochs, steps, tokens"


def combine(op: str, left: Raw, right: Raw, span: Span, sink: Sink) -> Raw:
    """`left op right` of two numbers; the units must agree, or one side has none."""
    for side in (left, right):
        if not isinstance(side, Num):
            if not isinstance(side, Broken):
                sink.error("FT063", f"`{op}` needs numbers", side.span, label="not a number")
            return Broken(span)
    assert isinstance(left, Num) and isinstance(right, Num)
    dimension = _dimension(op, left.dimension, right.dimension)
    if dimension is None:
        operation = f"`{left.written}` {op} `{right.written}`"
        sink.error(
            "FT063", f"{operation} mixes units", span, help="use the same unit on both sides, or no unit on one side"
        )
        return Broken(span)
    number = _compute(op, left.number, right.number)
    if number is None:
        sink.error("FT063", "cannot compute this", span, label="division by zero, or too large")
        return Broken(span)
    return Num(number, dimension, format(number, ".12g"), span)


def _dimension(op: str, left: Dimension, right: Dimension) -> Dimension | None:
    plain: tuple[Dimension, ...] = ("", "count")
    if left == right:
        return "" if op == "/" else left if op in "+-" or left in plain else "share" if left == "share" else None
    if op in "+-":
        return "count" if left in plain and right in plain else None
    if right in plain:
        return left if left not in plain else "count"
    if op == "*" and (left in plain or left == "share"):
        return right
    if right == "share":
        return left
    return None


_OPERATIONS: dict[str, Callable[[float, float], float]] = {"+": add, "-": sub, "*": mul, "/": truediv}


def _compute(op: str, left: float, right: float) -> float | None:
    try:
        number = _OPERATIONS[op](left, right)
    except (ZeroDivisionError, OverflowError):
        return None
    return exact(number) if abs(number) < 1e300 else None


def negative(value: Raw, span: Span, sink: Sink) -> Raw:
    if isinstance(value, Num):
        return Num(-value.number, value.dimension, f"-{value.written}", span)
    if not isinstance(value, Broken):
        sink.error("FT063", "`-` needs a number", value.span, label="not a number")
    return Broken(span)
