"""A block of rows to what is known of each: done in processes of their own, since this is where the time goes."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from orjson import OPT_SORT_KEYS as SORTED
from orjson import dumps
from xxhash import xxh3_64_intdigest

from .blocks import Block
from .checking import REASONS, BadRowError, Checker, DroppedError
from .conversion import Converter
from .languages import Languages
from .near_duplicates import Sketcher
from .tokens import Counting

SHOWN = 20
"""Errors of a block that are kept in words."""
Array = np.ndarray[Any, Any]


@dataclass
class Scanned:
    """What is known of the rows of a block, in their order: one element of each array a row.

    `bands` and `signs` (of near-duplicates) and `tokens` are empty where nobody asked for them. `errors` are the first ones
    (position and reason), `kinds` the kind of each, `before` how many rows of the block precede it.
    """

    position: Array
    why: Array
    digest: Array
    chars: Array
    tokens: Array
    bands: Array
    signs: Array
    errors: list[tuple[int, str]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    before: Array = field(default_factory=lambda: np.zeros(0, np.uint32))
    keys: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """How many rows have these columns."""
    undetected: int = 0
    """Rows too short to detect their language, which stay."""
    converted: int = 0
    """Rows that are not written as they were read."""
    unreadable: int = 0
    """What is no row, and is left out by `drop = [broken]`."""


class Scanner:
    """Made once a process."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.checker = Checker(spec)
        self._converters = [Converter(spec, source) for source in spec["sources"]]
        self._skips = "broken" in (spec.get("drop") or ())
        self.tokens = self.languages = self.near = None
        if spec.get("tokens") or spec.get("longest"):
            self.tokens = Counting(spec)
        if spec.get("languages"):
            self.languages = Languages(spec["languages"])
        if spec.get("dedupe") == "near":
            self.near = Sketcher(spec["near"])

    def scan(self, block: Block, source: int) -> Scanned:
        """Every row of a block of a source: parsed, converted, checked, hashed, measured."""
        convert, converted = self._converters[source].row, 0
        positions: list[int] = []
        whys: list[int] = []
        digests: list[int] = []
        chars: list[int] = []
        texts: list[str] = []
        keys: Counter[tuple[str, ...]] = Counter()
        measured = bool(self.tokens or self.languages or self.near)
        errors: list[tuple[int, str]] = []
        kinds: list[str] = []
        before: list[int] = []

        def bad(position: int, text: str, kind: str) -> None:
            if len(errors) < SHOWN:
                errors.append((position, text))
            kinds.append(kind)
            before.append(len(positions))

        unread = deque(() if self._skips else block.errors)
        for number, (position, line) in enumerate(block.numbered()):
            while unread and unread[0][0] <= number:
                bad(*unread.popleft()[1:], "unreadable")
            why = digest = 0
            questions: list[str] = []
            answers: list[str] = []
            try:
                read = parsed(line)
                row = convert(read)
                converted += row is not read
                questions, answers = self.checker.check(row)
                keys[tuple(row)] += 1
                digest = xxh3_64_intdigest(dumps(row, option=SORTED))
            except BadRowError as error:
                if not self._skips:
                    bad(position, str(error), error.kind)
                    continue
                why = REASONS.index("broken")
            except orjson.JSONEncodeError:  # it reads what is deeper than it writes
                if not self._skips:
                    bad(position, "nested deeper than 254 levels", "json")
                    continue
                why = REASONS.index("broken")
            except DroppedError as error:
                why = REASONS.index(error.reason)
            positions.append(position)
            whys.append(why)
            digests.append(digest)
            chars.append(sum(map(len, questions)) + sum(map(len, answers)))
            if measured:
                texts.append("\n".join((*questions, *answers)))
        for _, position, text in unread:
            bad(position, text, "unreadable")
        empty = np.zeros(0, np.uint32)
        scanned = Scanned(
            np.array(positions, np.uint64),
            np.array(whys, np.uint8),
            np.array(digests, np.uint64),
            np.array(chars, np.uint32),
            *(empty, empty, empty),
            errors,
            kinds,
            np.array(before, np.uint32),
            keys,
            converted=converted,
            unreadable=len(block.errors) if self._skips else 0,
        )
        self._measure(texts, scanned)
        return scanned

    def _measure(self, texts: list[str], scanned: Scanned) -> None:
        """What costs more, where it is asked for."""
        if self.tokens:
            scanned.tokens = self.tokens.count(texts)
            self.tokens.judge(scanned.tokens, scanned.why)
        if self.languages:
            scanned.undetected = self.languages.judge(texts, scanned.why)
        if self.near:
            scanned.bands, scanned.signs = self.near.sketch(texts)


# --- JSON, strictly

_SPACED = re.compile(rb'"\s+:')
_NUMBER = re.compile(rb"\d{16}|[eE][+-]?\d{3}")
_BIGGEST = 2**63 - 1
_NOT_JSON = re.compile(rb"NaN|-?Infinity")
"""What Python's own `json` writes, and no other reader takes."""


def parsed(line: bytes) -> Any:
    """A row. Raises: BadRowError for what is no JSON, and for what JSON allows and the next reader would lose."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadRowError("json", _reason(line, error)) from None
    if _suspect(line, row):
        _strict(line)
    return row


def _reason(line: bytes, error: orjson.JSONDecodeError) -> str:
    if b"\0" in line:
        return "not JSON: there is a NUL byte in it"
    try:
        line.decode()
    except UnicodeDecodeError as bad:
        return f"not UTF-8: byte {line[bad.start]:#04x} at {bad.start + 1}"
    if (match := _NOT_JSON.match(line, error.pos)) is not None:
        return f"not JSON: {match[0].decode()} is no number there; write null"
    return f"not JSON: {error.msg.split(': line')[0]} at {error.pos + 1}"


def _suspect(line: bytes, row: Any) -> bool:
    """Whether the slow look is needed: a key more in the text than in the row, or a number that may be too large.

    Cheap, and wrong only towards looking: every key of the row occurs as `":` in the text unless there are blanks.
    """
    if not isinstance(row, dict):
        return False
    flat = set(map(type, row.values())) == {str}
    if flat and line.count(b'"') == 4 * len(row):
        return False
    keys = line.count(b'":')
    if keys != (len(row) if flat else orjson.dumps(row).count(b'":')) or _SPACED.search(line):
        return True
    return not flat and _NUMBER.search(line) is not None


def _strict(line: bytes) -> None:
    """The slow look. Raises: BadRowError."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(items)
        if len(row) < len(items):
            twice = Counter(key for key, _ in items).most_common(1)[0][0]
            raise BadRowError("json", f"the key `{twice}` is repeated")
        for key, value in items:
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int) and abs(number) > _BIGGEST:
                    raise BadRowError("json", f"the number in `{key}` does not fit 64 bits")
        return row

    try:
        json.loads(line, object_pairs_hook=pairs)
    except ValueError as error:  # Python refuses numbers of more than 4300 digits
        raise BadRowError("json", f"not JSON: {str(error).split(':')[0].lower()}") from None
    except RecursionError:
        raise BadRowError("json", "not JSON: nested too deep") from None
