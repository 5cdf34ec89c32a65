"""`data.py SPEC.json`: rows read, checked, split and written for the engine. Standard library, and
pyarrow for Parquet.

The spec and what is written are described in docs/build-and-run.md. Rows keep their own keys. Which part a row goes to
follows from its content and the seed alone: neither the order of files nor other rows matter, and equal rows never part.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import heapq
import json
import os
import random
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ENDINGS = (".json", ".jsonl", ".csv", ".parquet")
SHOWN = 20
"""Errors printed before the rest is only counted."""


class BadRowError(Exception):
    """A row that does not fit its format."""


class DroppedError(Exception):
    """A row left out by a rule the recipe names."""


class Report:
    """Errors as they are found, counts for the end, progress for whoever watches."""

    def __init__(self, folder: Path) -> None:
        self.errors = 0
        self.dropped: Counter[str] = Counter()
        self.read: dict[str, int] = {}
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._told = 0.0

    def error(self, where: str, text: str) -> None:
        self.errors += 1
        if self.errors <= SHOWN:
            print(f"error: {where}: {text}", file=sys.stderr, flush=True)

    def progress(self, done: int, total: int | None, what: str = "rows", *, now: bool = False) -> None:
        if now or time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            self.event({"event": "progress", "done": done, "total": total, "what": what})

    def event(self, event: dict[str, Any]) -> None:
        self._metrics.write(json.dumps(event) + "\n")
        self._metrics.flush()


# --- reading


def files_of(path: str) -> list[str]:
    """The files a path stands for, sorted: itself, those of a folder, those a glob matches."""
    if os.path.isdir(path):
        inside = (os.path.join(path, name) for name in os.listdir(path))
        return sorted(name for name in inside if name.endswith(ENDINGS))
    return [path] if os.path.isfile(path) else sorted(glob.glob(path, recursive=True))


def rows_of(path: str, report: Report) -> Iterator[tuple[str, Any]]:
    """(where, row) of each row of a file: JSON Lines, an array of objects, CSV with a header, or Parquet."""
    if path.endswith(".csv"):
        yield from _csv(path, report)
        return
    if path.endswith(".parquet"):
        yield from _parquet(path)
        return
    with open(path, encoding="utf-8-sig") as handle:
        head = handle.read(1)
        while head.isspace():
            head = handle.read(1)
        handle.seek(0)
        if head == "[" and not path.endswith(".jsonl"):
            yield from _array(path, handle.read(), report)
            return
        for number, line in enumerate(handle, 1):
            if line.strip():
                try:
                    yield f"{path}:{number}", json.loads(line)
                except ValueError as error:
                    report.error(f"{path}:{number}", f"not JSON: {_reason(error)}")


def _csv(path: str, report: Report) -> Iterator[tuple[str, Any]]:
    with open(path, encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        try:
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    report.error(where, "as many cells as the header has are wanted")
                else:
                    yield where, row
        except csv.Error as error:
            report.error(f"{path}:{reader.line_num}", f"not CSV: {error}")


def _parquet(path: str) -> Iterator[tuple[str, Any]]:
    """Rows in batches; pyarrow comes with the engine (datasets needs it)."""
    import pyarrow.parquet

    number = 0
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
        for row in batch.to_pylist():
            number += 1
            yield f"{path}: row {number}", row


def _array(path: str, text: str, report: Report) -> Iterator[tuple[str, Any]]:
    """Rows of an array, each with the line it starts on."""
    decoder = json.JSONDecoder()
    at, line = text.index("[") + 1, 1
    line += text.count("\n", 0, at)
    while True:
        start = at
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        line += text.count("\n", start, at)
        if at >= len(text) or text[at] == "]":
            return
        try:
            row, end = decoder.raw_decode(text, at)
        except ValueError as error:
            report.error(f"{path}:{line}", f"not JSON: {_reason(error)}")
            return
        yield f"{path}:{line}", row
        line += text.count("\n", at, end)
        at = end


def _reason(error: ValueError) -> str:
    return str(error).split(":")[0].lower()


# --- checking


class Checker:
    """Holds rows against the format of a spec."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.family, _, base = spec["format"].rpartition("-")
        self.base = base
        self.columns: dict[str, str] = spec["columns"]
        self.roles: dict[str, str] = spec.get("roles") or {}
        self.drop = set(spec.get("drop") or ())

    def check(self, row: Any) -> None:
        """Raises: BadRowError, DroppedError."""
        if not isinstance(row, dict):
            raise BadRowError(f"a row is an object, not {_kind(row)}")
        {"alpaca": self._alpaca, "text": self._text}.get(self.base, self._chat)(row)
        if self.family == "preference":
            self._answers(row)
        elif self.family == "kto":
            label = self._need(row, "label")
            if not isinstance(label, bool):
                raise BadRowError(f"`{self.columns['label']}` is true or false, not {_kind(label)}")

    def _need(self, row: dict[str, Any], part: str) -> Any:
        column = self.columns.get(part, part)
        if column not in row:
            raise BadRowError(
                f"no `{column}`; this row has {', '.join(f'`{key}`' for key in list(row)[:8]) or 'nothing'}"
            )
        return row[column]

    def _text_of(self, row: dict[str, Any], part: str) -> str:
        value = self._need(row, part)
        if not isinstance(value, str):
            raise BadRowError(f"`{self.columns[part]}` is text, not {_kind(value)}")
        return value

    def _text(self, row: dict[str, Any]) -> None:
        if not self._text_of(row, "prompt").strip():
            self._empty("prompt")

    def _empty(self, part: str) -> None:
        if "empty" in self.drop:
            raise DroppedError("empty")
        raise BadRowError(f"`{self.columns[part]}` is empty (drop = [empty] leaves such rows out)")

    def _alpaca(self, row: dict[str, Any]) -> None:
        if not self._text_of(row, "prompt").strip():
            self._empty("prompt")
        if self.family != "preference" and "response" in self.columns and not self._text_of(row, "response").strip():
            self._empty("response")
        for part in ("query", "system"):
            value = row.get(self.columns.get(part, ""))
            if value is not None and not isinstance(value, str):
                raise BadRowError(f"`{self.columns[part]}` is text, not {_kind(value)}")
        for turn in row.get(self.columns.get("history", "")) or ():
            if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
                raise BadRowError(f"`{self.columns['history']}` is a list of [question, answer]")

    def _chat(self, row: dict[str, Any]) -> None:
        turns = self._need(row, "messages")
        if not isinstance(turns, list) or not turns:
            raise BadRowError(f"`{self.columns['messages']}` is a list of turns, not {_kind(turns)}")
        names = [self._turn(turn, at) for at, turn in enumerate(turns, 1)]
        if names[0] == self.roles["system"]:
            names = names[1:]
        if self.base == "openai":  # the engine joins the answers of several tools into one turn
            names = [n for at, n in enumerate(names) if n != self.roles["tool"] or names[at - 1 : at] != [n]]
        asks, answers = (self.roles["user"], self.roles["tool"]), (self.roles["assistant"], self.roles["call"])
        wrong = [name for at, name in enumerate(names) if name not in (answers if at % 2 else asks)]
        if wrong or len(names) % 2 != (self.family == "preference"):
            if "bad_roles" in self.drop:
                raise DroppedError("bad_roles")
            raise BadRowError(f"speakers do not take turns: {', '.join(names)}")

    def _turn(self, turn: Any, at: int) -> str:
        role, content = self.roles["role"], self.roles["content"]
        if not isinstance(turn, dict):
            raise BadRowError(f"turn {at} is an object, not {_kind(turn)}")
        if role not in turn:
            raise BadRowError(f"turn {at} has no `{role}`; it has {', '.join(f'`{key}`' for key in turn) or 'nothing'}")
        if not isinstance(turn.get(content), str) and not turn.get("tool_calls"):
            raise BadRowError(f"turn {at} has no text in `{content}`")
        name = str(turn[role])
        if turn.get("tool_calls"):
            return self.roles["call"]
        if name not in self.roles.values():
            raise BadRowError(f"turn {at} is by `{name}`; known: {', '.join(list(self.roles.values())[2:])}")
        return name

    def _answers(self, row: dict[str, Any]) -> None:
        for part in ("chosen", "rejected"):
            value = self._need(row, part)
            if self.base in ("sharegpt", "openai"):
                self._turn(value, 1)
            elif not isinstance(value, str):
                raise BadRowError(f"`{self.columns[part]}` is text, not {_kind(value)}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


# --- splitting


def digest(row: Any, seed: int) -> int:
    """A number from 0 to 2**64 - 1 that depends on content and seed alone."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return int.from_bytes(
        hashlib.blake2b(f"{seed}\n{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


PARTS = ("train", "eval", "test")


def parts_of(digests: Sequence[int], holdout: dict[str, Any]) -> bytearray:
    """The part of each row, as an index of PARTS: shares are cut off the range of digests, counts are its lowest ones."""
    low, parts = 0, bytearray(len(digests))
    for name in ("test", "eval"):
        share, count = (holdout.get(name, {}).get(kind) for kind in ("share", "count"))
        if share is not None:
            high = low + int(share * 2**64)
            chosen = [at for at, value in enumerate(digests) if low <= value < high and not parts[at]]
            low = high
        elif count:
            lowest = heapq.nsmallest(int(count), (value for at, value in enumerate(digests) if not parts[at]))
            last = lowest[-1] if lowest else -1
            chosen = [at for at, value in enumerate(digests) if value <= last and not parts[at]]
        else:
            continue
        for at in chosen:
            parts[at] = PARTS.index(name)
    return parts


# --- the work: rows are read twice and never held, so that files may be larger than memory


class Survey:
    """What the first reading found: of each file which of its rows are fine, and of each fine row a digest and how often
    it is taken (8 + 2 bytes a row).
    """

    def __init__(self, checker: Checker, report: Report, seed: int) -> None:
        self.checker, self.report, self.seed = checker, report, seed
        self.files: list[tuple[str, bytearray]] = []
        self.digests = array("Q")
        self.copies = array("H")

    def source(self, source: dict[str, Any], seed: int) -> None:
        """Look through all files of a source; then limit, sample and repeat its rows."""
        start, limit = len(self.digests), source.get("limit")
        names = files_of(source["path"])
        if not names:
            self.report.error(source["path"], "there is no such file")
        for name in names:
            left = None if limit is None else limit - (len(self.digests) - start)
            if left is None or left > 0:
                self._file(name, left)
        count, wanted, repeat = len(self.digests) - start, source.get("sample"), source.get("repeat") or 1
        copies = array("H", [repeat]) * count
        if wanted is not None and count:
            chooser = random.Random(seed)
            copies = array("H", bytes(2 * count))
            for at in (
                *chooser.sample(range(count), min(wanted, count)),
                *chooser.choices(range(count), k=max(0, wanted - count)),
            ):
                copies[at] += repeat
        self.copies.extend(copies)

    def _file(self, name: str, left: int | None) -> None:
        fine, before = bytearray(), len(self.digests)
        try:
            for where, row in rows_of(name, self.report):
                if left is not None and len(self.digests) - before >= left:
                    break
                fine.append(self._fine(where, row))
                self.report.progress(len(self.digests), None, "rows checked")
        except ImportError:
            self.report.error(name, "Parquet is read with pyarrow, which this Python has not; any engine's has")
        except (OSError, ValueError) as error:
            self.report.error(name, f"cannot be read: {error}")
        self.report.read[name] = len(self.digests) - before
        self.files.append((name, fine))

    def _fine(self, where: str, row: Any) -> bool:
        try:
            self.checker.check(row)
        except BadRowError as error:
            self.report.error(where, str(error))
        except DroppedError as error:
            self.report.dropped[str(error)] += 1
        else:
            self.digests.append(digest(row, self.seed))
            return True
        return False

    def drop_repetitions(self) -> None:
        """Keep the first of equal rows."""
        seen: set[int] = set()
        for at, value in enumerate(self.digests):
            if value in seen:
                self.copies[at] = 0
                self.report.dropped["duplicates"] += 1
            seen.add(value)

    def rows(self) -> Iterator[tuple[int, Any]]:
        """The fine rows again, each with its number."""
        number = 0
        for name, fine in self.files:
            for flag, (_, row) in zip(fine, rows_of(name, self.report), strict=False):
                if flag:
                    yield number, row
                    number += 1


def write(folder: Path, survey: Survey, parts: Sequence[int], names: Sequence[str]) -> dict[str, int]:
    """JSON Lines of each part, beside and then renamed; how many rows each has."""
    counts = dict.fromkeys(names, 0)
    total = sum(survey.copies)
    with ExitStack() as stack:
        handles = {name: stack.enter_context((folder / f".{name}.jsonl").open("w", encoding="utf-8")) for name in names}
        for number, row in survey.rows():
            name, copies = PARTS[parts[number]], survey.copies[number]
            if copies:
                handles[name].write((json.dumps(row, ensure_ascii=False) + "\n") * copies)
                counts[name] += copies
                survey.report.progress(sum(counts.values()), total, "rows written")
    for name in names:
        (folder / f".{name}.jsonl").replace(folder / f"{name}.jsonl")
    return counts


def main(argv: list[str]) -> int:
    """0 when written, 1 when rows do not fit."""
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    folder = Path(spec["stage"])
    folder.mkdir(parents=True, exist_ok=True)
    report, checker = Report(folder), Checker(spec)
    holdout = spec.get("holdout") or {}
    seed = holdout.get("seed", spec["seed"])
    survey = Survey(checker, report, seed)
    for source in spec["sources"]:
        survey.source(source, spec["seed"])
    if spec.get("dedupe") == "exact":
        survey.drop_repetitions()
    parts = parts_of(survey.digests, holdout)
    held = {
        name: _held(holdout[name]["paths"], checker, report, seed) for name in PARTS if "paths" in holdout.get(name, {})
    }
    names = ["train", *(name for name in PARTS[1:] if name in holdout and name not in held)]
    kept = Counter(PARTS[part] for part, copies in zip(parts, survey.copies, strict=True) if copies)
    for name in (*names, *held):
        if not report.errors and not (len(held[name].digests) if name in held else kept[name]):
            report.error(spec["where"], f"no rows are left for `{name}` of {len(survey.digests)}")
    if report.errors:
        more = report.errors - SHOWN
        print(f"error: … and {more} more" if more > 0 else f"{report.errors} errors", file=sys.stderr)
        return 1
    counts = write(folder, survey, parts, names)
    for name, other in held.items():
        counts |= write(folder, other, bytearray([PARTS.index(name)]) * len(other.digests), [name])
    _finish(folder, counts, report)
    return 0


def _held(paths: list[str], checker: Checker, report: Report, seed: int) -> Survey:
    """Rows of a part that has files of its own."""
    survey = Survey(checker, report, seed)
    for path in paths:
        survey.source({"path": path}, seed)
    return survey


def _finish(folder: Path, counts: dict[str, int], report: Report) -> None:
    facts = {"read": report.read, "dropped": dict(report.dropped), "splits": counts}
    (folder / "report.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    result = {"kind": "dataset", "path": str(folder), "metrics": counts, "samples": []}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    report.progress(sum(counts.values()), sum(counts.values()), now=True)
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    dropped = ", ".join(f"{count} {why}" for why, count in sorted(report.dropped.items()))
    print(f"rows: {said}" + (f"; dropped: {dropped}" if dropped else ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
