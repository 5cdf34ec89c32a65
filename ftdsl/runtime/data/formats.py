"""Files of each format as blocks of JSON lines. Files are streamed, compressed ones too; none is loaded whole."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterator
from itertools import count
from typing import IO, Any, cast

import orjson

from .blocks import BLOCK, Block, CannotReadError, on_line, unpacked

BOM = b"\xef\xbb\xbf"
LONGEST = 256 << 20
"""Bytes of one row: more is taken for a file that is not what its name says."""
BATCH = 1024
"""Rows of a block that is made row by row."""


def opened(name: str) -> tuple[IO[bytes], IO[bytes]]:
    """A file's content, unpacked, and the raw file (for the progress). Raises: CannotReadError."""
    raw = open(name, "rb")  # noqa: SIM115 (closed by whoever reads)
    ending = name.removeprefix(unpacked(name))
    if not ending:
        _not_utf16(raw)
    if ending == ".gz":
        import gzip

        return cast(IO[bytes], gzip.GzipFile(fileobj=raw)), raw
    if ending == ".bz2":
        import bz2

        return cast(IO[bytes], bz2.BZ2File(raw)), raw
    if ending == ".xz":
        import lzma

        return cast(IO[bytes], lzma.LZMAFile(raw)), raw
    if ending == ".zst":
        pyarrow = _pyarrow("Zstandard")
        return cast(IO[bytes], pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")), raw
    return raw, raw


def _not_utf16(raw: IO[bytes]) -> None:
    """Raises: CannotReadError for what Windows calls Unicode: every line of it would be an error of its own."""
    head = raw.read(2)
    raw.seek(0)
    if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raw.close()
        raise CannotReadError("this is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CannotReadError(
            f"{what} is read with pyarrow, which this Python does not have; every LLaMA-Factory environment has it"
        ) from None
    return pyarrow


def lines(name: str) -> Iterator[Block]:
    """JSON Lines: blocks end where a line ends."""
    content, raw = opened(name)
    with raw, content:
        first, rest = 1, b""
        while chunk := content.read(BLOCK):
            whole, end, tail = (rest + chunk).rpartition(b"\n")
            if not end:
                rest = tail
                _not_too_long(rest, first)
                continue
            yield Block(whole.removeprefix(BOM) if first == 1 else whole, first, read=raw.tell())
            first += whole.count(b"\n") + 1
            rest = tail
        if rest:
            yield Block(rest.removeprefix(BOM) if first == 1 else rest, first, read=raw.tell())


def _not_too_long(rest: bytes, line: int) -> None:
    if len(rest) > LONGEST:
        raise CannotReadError(f"line {line} is longer than {LONGEST >> 20} MiB: this is not JSON Lines")


def text_rows(name: str) -> Iterator[Block]:
    """Plain text: a line is a row, `{"text": …}`, as LLaMA-Factory reads it."""
    for block in lines(name):
        rows = _Rows()
        for position, line in block.numbered():
            try:
                rows.add(position, orjson.dumps({"text": line.decode().rstrip("\r")}))
            except UnicodeDecodeError:
                rows.fail(position, "not UTF-8")
        yield rows.block(block.read)


class _Rows:
    """Rows gathered into blocks."""

    def __init__(self, raw: IO[bytes] | None = None) -> None:
        self.rows: list[bytes] = []
        self.numbers: list[int] = []
        self.errors: list[tuple[int, int, str]] = []
        self.bytes = 0
        self._raw = raw

    def add(self, number: int, row: bytes) -> None:
        self.rows.append(row)
        self.numbers.append(number)
        self.bytes += len(row)

    def fail(self, number: int, why: str) -> None:
        """Record an error in place of a row."""
        self.errors.append((len(self.rows), number, why))

    @property
    def full(self) -> bool:
        return self.bytes >= BLOCK or len(self.rows) >= 16 * BATCH

    def block(self, read: int | None = None) -> Block:
        at = read if read is not None else self._raw.tell() if self._raw else 0
        made = Block(b"\n".join(self.rows), numbers=self.numbers, read=at, errors=tuple(self.errors))
        self.rows, self.numbers, self.errors, self.bytes = [], [], [], 0
        return made


def csv_rows(name: str) -> Iterator[Block]:
    """CSV with a header; a row's position is the line it ends on."""
    content, raw = opened(name)
    csv.field_size_limit(sys.maxsize)
    with raw, io.TextIOWrapper(content, "utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        _header(reader)
        rows = _Rows(raw)
        while True:
            try:
                row = next(reader, None)
                if row is None:
                    break
                if None in row or None in row.values():
                    rows.fail(reader.line_num, _cells(row))
                else:
                    rows.add(reader.line_num, orjson.dumps(row))
            except csv.Error as error:
                rows.fail(reader.line_num + 1, f"not CSV: {error}")
            except TypeError:
                rows.fail(reader.line_num, "not UTF-8")
            if rows.full:
                yield rows.block()
        yield rows.block()


def _header(reader: csv.DictReader[str]) -> None:
    """Raises: CannotReadError if a name is repeated, or another separator than commas is used."""
    try:
        names = reader.fieldnames or ()
    except csv.Error:  # reported again, with its line, when the rows are read
        return
    other = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), "")
    if other:
        mark = {"\t": "tabs", ";": "semicolons"}.get(other, f"`{other}`")
        raise CannotReadError(f"its cells are separated by {mark}; commas are read")
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise CannotReadError(f"the column `{twice}` is repeated in its header")


def _cells(row: dict[str | None, Any]) -> str:
    """What is wrong with a row that is longer or shorter than the header."""
    wanted = len([name for name in row if name is not None])
    cells = sum(value is not None for name, value in row.items() if name is not None) + len(row.get(None) or ())
    return f"{cells} cell{'s' * (cells != 1)}, and the header has {wanted}"


def parquet_rows(name: str) -> Iterator[Block]:
    """Rows of a Parquet file, by batches."""
    pyarrow = _pyarrow("Parquet")
    try:
        with pyarrow.parquet.ParquetFile(name) as file:
            size, count = _size(name), max(1, file.metadata.num_rows)
            number = 0
            for batch in file.iter_batches(batch_size=BATCH):
                block = table_block(batch.to_pylist(), number)
                number += batch.num_rows
                block.read = size * number // count
                yield block
    except pyarrow.ArrowException as error:
        raise CannotReadError(f"this is no Parquet file that can be read ({str(error).splitlines()[0]})") from None


def _size(name: str) -> int:
    import os

    return os.path.getsize(name)


def table_block(rows: list[dict[str, Any]], before: int) -> Block:
    """Rows of an Arrow table as a block; `before` rows came before."""
    made = _Rows()
    for number, row in enumerate(rows, before + 1):
        try:
            made.add(number, orjson.dumps(row))
        except TypeError as error:
            made.fail(number, f"a column is no text, number or list: {error}")
    return made.block()


def json_rows(name: str) -> Iterator[Block]:
    """A `.json` file: an array of rows, rows one after the other, or JSON Lines."""
    content, raw = opened(name)
    with content:
        head = content.read(BLOCK).removeprefix(BOM).lstrip()
    raw.close()
    if not head.startswith(b"[") and _is_row(head.partition(b"\n")[0]):
        yield from lines(name)
    else:
        yield from _values(name)


def line_rows(name: str) -> Iterator[Block]:
    """A `.jsonl` file: JSON Lines, or an array all the same, which LLaMA-Factory reads too."""
    content, raw = opened(name)
    with content:
        head = content.read(1 << 10).removeprefix(BOM).lstrip()
    raw.close()
    yield from _values(name) if head.startswith(b"[") else lines(name)


def _is_row(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


def _values(name: str) -> Iterator[Block]:
    """Rows of an array, or one after the other, each with the line it starts on, and its number where others start there."""
    content, raw = opened(name)
    with raw, io.TextIOWrapper(content, "utf-8-sig", errors="surrogateescape", newline="") as text:
        window, rows, last = _Window(text), _Rows(raw), 0
        for number in count(1):
            try:
                if (item := window.value()) is None:
                    break
                line, row = item
                shared = line == last or (window.goes_on() and window.line == line)
                rows.add(on_line(line, number) if shared else line, row)
                last = line
            except (ValueError, RecursionError) as error:
                position = on_line(window.line, number) if window.line == last else window.line
                rows.fail(position, f"not JSON: {str(error).split(':')[0].lower()}")
                break  # where the next row starts cannot be known
            if rows.full:
                yield rows.block()
        yield rows.block()


class _Window:
    """The part of a text that is looked at: grows until a value is whole, and forgets what is behind."""

    def __init__(self, text: IO[str]) -> None:
        self._text, self._buffer, self._at, self.line = text, "", 0, 1
        self._decoder = json.JSONDecoder(strict=False)  # control characters are reported when rows are parsed
        self._whole = False

    def value(self) -> tuple[int, bytes] | None:
        """(line, JSON on one line) of the next value; None at the end. Raises: ValueError."""
        if not self.goes_on():
            return None
        while True:
            try:
                _, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._buffer) - 16
                if not cut or len(self._buffer) - self._at > LONGEST or not self._more():
                    raise
                continue
            if end == len(self._buffer) and self._more():
                continue  # a number may go on
            text, line = self._buffer[self._at : end], self.line
            self.line += text.count("\n")
            self._at = end
            return line, text.replace("\n", " ").encode("utf-8", "surrogateescape")

    def goes_on(self) -> bool:
        """Past blanks, commas and brackets between values; False at the end."""
        while True:
            while self._at < len(self._buffer):
                char = self._buffer[self._at]
                if char not in " \t\r\n,[]":
                    return True
                self.line += char == "\n"
                self._at += 1
            if not self._more():
                return False

    def _more(self) -> bool:
        """Read on: as much again as there is, so that a long row is not tried too often."""
        chunk = self._text.read(max(1 << 20, len(self._buffer) - self._at))
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        return bool(chunk)
