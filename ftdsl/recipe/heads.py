"""The beginning of a data file: its first rows, and what is wrong with it as a file.

`ftc check` reads no more than this; `ftdsl/runtime/data` reads files whole, under the engine's Python.
"""

from __future__ import annotations

import codecs
import io
import json
import zlib
from dataclasses import field
from pathlib import Path, PurePath
from typing import Any

from ftdsl.record import mutable
from ftdsl.session import Files

HEAD = 1 << 20
"""Maximum bytes of a file that are read, before and after unpacking."""
PACKED = (".gz", ".bz2", ".xz", ".zst")
ROWS = 2000
"""Maximum number of rows that are read."""
KINDS = (".jsonl", ".json", ".csv", ".txt")


@mutable
class Head:
    """rows: (line, row), a row being any JSON value; errors: (line, kind, what is wrong with it) of lines that are no rows;
    trouble: why the file as a whole cannot be read; is_whole: the file has no more than this; size: bytes of the text read.
    """

    rows: list[tuple[int, Any]] = field(default_factory=list)
    errors: list[tuple[int, str, str]] = field(default_factory=list)
    trouble: str = ""
    is_whole: bool = False
    size: int = 0

    @property
    def is_all(self) -> bool:
        """Whether these are all rows of the file, and all can be read."""
        return self.is_whole and not self.errors and not self.trouble and 0 < len(self.rows) < ROWS


def head_of(path: Path, files: Files, rows: int = ROWS) -> Head:
    """The head of a file; empty where its kind is not read here (Parquet, Arrow, zstd), or it cannot be opened."""
    name = PurePath(path.name)
    packed = name.suffix if name.suffix in PACKED else ""
    kind = PurePath(name.stem).suffix if packed else name.suffix
    if kind not in KINDS:
        return Head()
    try:
        content = files.head(path, HEAD + 1)
    except OSError:
        return Head()
    whole, content = len(content) <= HEAD, content[:HEAD]
    if packed:
        try:
            content, whole = _unpacked(content, packed, whole)
        except (OSError, EOFError, ValueError, zlib.error):
            return Head(trouble=f"this is not a {packed} file")
        if packed == ".zst":
            return Head()
    return _read(content, kind, whole, rows)


def _unpacked(content: bytes, packed: str, whole: bool) -> tuple[bytes, bool]:
    """(text, whether all of it). Raises: OSError, EOFError, ValueError, zlib.error."""
    if packed == ".gz":
        inflater = zlib.decompressobj(wbits=31)
        text = inflater.decompress(content, HEAD)
        return text, whole and inflater.eof
    if packed == ".bz2":
        import bz2

        bunzip = bz2.BZ2Decompressor()
        return bunzip.decompress(content, HEAD), whole and bunzip.eof
    if packed == ".xz":
        import lzma

        try:
            unxz = lzma.LZMADecompressor()
            return unxz.decompress(content, HEAD), whole and unxz.eof
        except lzma.LZMAError as error:
            raise ValueError(str(error)) from None
    return b"", False


def _read(content: bytes, kind: str, whole: bool, limit: int) -> Head:
    head = Head(is_whole=whole, size=len(content))
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head.trouble = "this is UTF-16; save it as UTF-8"
        return head
    if not whole:  # the last line may be cut
        content = content[: content.rfind(b"\n") + 1] or content
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if whole or error.start < len(content) - 4 or kind == ".jsonl":
            line = content.count(b"\n", 0, error.start) + 1
            head.trouble = f"line {line} is not UTF-8 (byte {content[error.start]:#04x}); convert it: iconv -t UTF-8"
            return head
        text = content[: error.start].decode("utf-8-sig")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text or text.isspace():
        head.trouble = "there are no rows in it" if whole else ""
        return head
    if kind == ".csv":
        _csv(text, head, limit)
    elif kind == ".txt":
        _txt(text, head, limit)
    elif text.lstrip().startswith("["):
        _array(text, head, limit)
    elif kind == ".json" and not _is_json(text.lstrip().partition("\n")[0]):
        _values(text, head, limit)
    else:
        _lines(text, head, limit)
    if whole and not head.rows and not head.errors and not head.trouble:
        head.trouble = "there are no rows in it"
    if kind == ".json" and text.lstrip().startswith("{") and not head.errors and (name := _nested(head)):
        head.trouble = f"the rows are inside `{name}`; the file must be a list of rows"
    return head


def _csv(text: str, head: Head, limit: int) -> None:
    import csv  # rarely needed

    try:
        reader = csv.DictReader(io.StringIO(text))
        names = reader.fieldnames or ()
        if other := next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), ""):
            head.trouble = f"its cells are separated by {_MARKS.get(other, other)}; commas are read"
            return
        for row in reader:
            if len(head.rows) == limit:
                break
            head.rows.append((reader.line_num, row))
    except csv.Error:
        return


_MARKS = {"\t": "tabs", ";": "semicolons"}


def _txt(text: str, head: Head, limit: int) -> None:
    start = text.lstrip()
    if start.startswith(("[", "{")) and head.is_whole and _is_json(start):
        head.trouble = "this is JSON, and a `.txt` is read as text, a row a line; call it `.json`"
    elif start.startswith("{") and _is_json(start.partition("\n")[0]):
        head.trouble = "this is JSON Lines, and a `.txt` is read as text, a row a line; call it `.jsonl`"
    lines = enumerate(text.split("\n"), 1)
    head.rows += [(at, {"text": line}) for at, line in lines if line and not line.isspace()][:limit]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(text: str, head: Head, limit: int) -> None:
    for number, line in enumerate(text.split("\n"), 1):
        if len(head.rows) + len(head.errors) >= limit:
            return
        if not line or line.isspace():
            continue
        try:
            head.rows.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            head.errors.append((number, "json", _reason(error)))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg.split(':')[0].removesuffix(' starting at').lower()} (column {error.colno})"
    return "not JSON: nested too deep" if isinstance(error, RecursionError) else "not JSON"


def _array(text: str, head: Head, limit: int) -> None:
    """An array of rows."""
    _values(text, head, limit, start=text.index("[") + 1)


def _values(text: str, head: Head, limit: int, start: int = 0) -> None:
    """Rows one after the other, with commas or without, each over several lines."""
    decoder, at, line, counted = json.JSONDecoder(strict=False), start, 1, 0
    while len(head.rows) < limit:
        before, at = at, _next(text, at)
        if why := _between(text[before:at], bool(start), bool(head.rows), at == len(text)):
            head.errors.append((text.count("\n", 0, before) + 1, "json", f"not JSON: {why}"))
            return
        if at == len(text):
            if start and head.is_whole and not text.rstrip().endswith("]"):
                head.errors.append((text.count("\n") + 1, "json", "not JSON: the array is not closed"))
            return
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except RecursionError:
            head.errors.append((line, "json", "not JSON: nested too deep"))
            return
        except json.JSONDecodeError as error:
            if head.is_whole or (error.pos < len(text) - 16 and not error.msg.startswith("Unterminated")):
                where = text.count("\n", 0, error.pos) + 1
                head.errors.append((where, "json", _reason(error)))
            return
        head.rows.append((line, value))
        at = end


def _between(gap: str, in_array: bool, after_row: bool, last: bool) -> str:
    """What is wrong between two rows; "" if nothing is."""
    commas = gap.count(",")
    if not in_array:
        return "commas between rows need the brackets of a list around them" if commas else ""
    if last and "]" in gap:
        return "a comma before the end of the list" if commas else ""
    if last or "]" in gap:
        return "" if last else "the list ends here"
    if after_row and not commas:
        return "a comma between two rows is missing"
    return "a comma too many" if commas > after_row else ""


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n,[]":
        at += 1
    return at


def _nested(head: Head) -> str:
    """The key of a single object whose value is a list of objects: the rows, one level too deep."""
    value = head.rows[0][1] if len(head.rows) == 1 and head.is_whole else None
    if isinstance(value, dict) and len(value) == 1:
        name, inner = next(iter(value.items()))
        rows = isinstance(inner, list) and bool(inner) and isinstance(inner[0], dict)
        return str(name) if rows and not {"role", "from"} & inner[0].keys() else ""  # a row with turns is a row
    return ""
