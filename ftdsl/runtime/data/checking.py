"""Checks rows against their format, and reports what LLaMA-Factory would fail on, or ignore silently.

What it does with each format: llamafactory/data/converter.py, data/formatter.py, data/mm_plugin.py (0.9.5).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from .conversion import MARKS
from .texts import Texts

Row = dict[str, Any]
REASONS = (
    "", "bad_roles", "empty", "no_text", "too_long", "tokens", "languages", "duplicates", "near_duplicates", "held_out",
    "named",
    "broken",
)  # fmt: skip
"""Why a row is left out, by the number kept of it; 0 is none."""


class BadRowError(Exception):
    """A row that does not fit its format: `kind` counts alike ones together."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class DroppedError(Exception):
    """A row left out by a rule the recipe names; `reason` is one of REASONS, `text` says what is wrong with the row."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text)
        self.reason, self.text = reason, text


class Checker:
    """Checks rows against the format of a spec."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.family, _, self.base = spec["format"].rpartition("-")
        self.columns: dict[str, str] = spec["columns"]
        self.roles: dict[str, str] = spec.get("roles") or {}
        self.drop = set(spec.get("drop") or ())
        self.texts = Texts(spec)
        wanted = ("prompt",) if self.family == "preference" else ("prompt", "response")
        self._filled = [(part, self.columns[part]) for part in wanted if part in self.columns]
        self._maybe = [self.columns[part] for part in ("query", "system") if part in self.columns]
        self._history = self.columns.get("history", "")
        self._media = [part for part in MARKS if part in self.columns]
        self._folder = spec.get("media") or ""
        self._exists: dict[str, bool] = {}
        self._base = {"alpaca": self._alpaca, "text": self._text}.get(self.base, self._chat)

    def check(self, row: Any) -> tuple[list[str], list[str]]:
        """The texts of a row that fits: (asked, answered). Raises: BadRowError, DroppedError."""
        if not isinstance(row, dict):
            raise BadRowError("shape", f"a row is an object, not {kind_of(row)}")
        self._base(row)
        if self.family == "preference":
            self._answers(row)
        elif self.family == "kto" and not isinstance(label := self._need(row, "label"), bool):
            raise BadRowError("type", f"`{self.columns['label']}` is true or false, not {kind_of(label)}")
        if "tools" in self.columns and row.get(self.columns["tools"]):
            self._tools(row[self.columns["tools"]])
        questions, answers = self.texts.of(row)
        if "no_text" in self.drop and not any(text.strip() for text in (*questions, *answers)):
            raise DroppedError("no_text")
        if self._media:
            self._files(row, (*questions, *answers))
        return questions, answers

    def _need(self, row: Row, part: str) -> Any:
        column = self.columns.get(part, part)
        if column not in row:
            has = ", ".join(f"`{key}`" for key in list(row)[:8]) or "nothing"
            raise BadRowError("missing", f"no `{column}`; this row has {has}")
        return row[column]

    def _text_of(self, row: Row, part: str) -> str:
        value = self._need(row, part)
        if not isinstance(value, str):
            if value is None and "no_text" in self.drop - {"empty"}:
                raise DroppedError("no_text")
            if value is None:
                self._blank(f"`{self.columns[part]}` is null")
            raise BadRowError("type", f"`{self.columns[part]}` is text, not {kind_of(value)}")
        return value

    def _empty(self, part: str) -> None:
        self._blank(f"`{self.columns[part]}` is empty")

    def _blank(self, text: str) -> None:
        """A question or answer without text. Raises: DroppedError, BadRowError; neither if only rows without any text go."""
        if "empty" in self.drop:
            raise DroppedError("empty", text)
        if "no_text" not in self.drop:
            raise BadRowError("empty", f"{text} (drop = [empty] leaves such rows out)")

    def _nothing(self, text: str) -> None:
        """Raises: DroppedError, BadRowError."""
        self._blank(text)
        raise DroppedError("no_text", text)

    def _bad_roles(self, text: str) -> None:
        """Raises: DroppedError, BadRowError."""
        if "bad_roles" in self.drop:
            raise DroppedError("bad_roles", text)
        raise BadRowError("roles", text)

    def _text(self, row: Row) -> None:
        if not self._text_of(row, "prompt").strip():
            self._empty("prompt")

    def _alpaca(self, row: Row) -> None:
        for part, column in self._filled:
            if (
                not (isinstance(value := row.get(column), str) and value.strip())
                and not self._text_of(row, part).strip()
            ):
                self._empty(part)
        for column in self._maybe:
            if (value := row.get(column)) is not None and not isinstance(value, str):
                raise BadRowError("type", f"`{column}` is text, not {kind_of(value)}")
        turns = (row.get(self._history) if self._history else None) or ()
        if not isinstance(turns, list | tuple) or not all(map(_is_exchange, turns)):
            raise BadRowError("type", f"`{self._history}` is a list of [question, answer]")

    # --- chats

    def _chat(self, row: Row) -> None:
        turns = self._need(row, "messages")
        if not turns and isinstance(turns, list | None):
            self._nothing(f"`{self.columns['messages']}` has no turns")
        if not isinstance(turns, list):
            raise BadRowError("type", f"`{self.columns['messages']}` is a list of turns, not {kind_of(turns)}")
        names = [self._turn(turn, at) for at, turn in enumerate(turns, 1)]
        if names[0] == self.roles["system"]:
            names = names[1:]
        if self.base == "openai":  # the engine joins the answers of several tools into one turn
            names = [n for at, n in enumerate(names) if n != self.roles["tool"] or names[at - 1 : at] != [n]]
        asks, answers = (self.roles["user"], self.roles["tool"]), (self.roles["assistant"], self.roles["call"])
        wrong = any(name not in (answers if at % 2 else asks) for at, name in enumerate(names))
        if wrong or len(names) % 2 != (self.family == "preference"):
            self._bad_roles(f"speakers do not take turns: {', '.join(names)}")

    def _turn(self, turn: Any, at: int) -> str:
        """The role a turn plays."""
        role, content = self.roles["role"], self.roles["content"]
        if not isinstance(turn, dict):
            raise BadRowError("type", f"turn {at} is an object, not {kind_of(turn)}")
        if role not in turn:
            has = ", ".join(f"`{key}`" for key in turn) or "nothing"
            raise BadRowError("missing", f"turn {at} has no `{role}`; it has {has}")
        if calls := turn.get("tool_calls"):
            self._calls([call.get("function") if isinstance(call, dict) else call for call in calls], at)
            return self.roles["call"]
        name, text = str(turn[role]), turn.get(content)
        if name not in list(self.roles.values())[2:]:
            known = ", ".join(filter(None, list(self.roles.values())[2:]))
            unnamed = next((role for role in ("system", "tool") if not self.roles[role] and name == role), "")
            tag = {"system": "system_tag", "tool": "observation_tag"}.get(unnamed)
            why = f", and `tags` has no `{tag}`" if tag else ""
            self._bad_roles(f"turn {at} is by `{name}`{why}; known: {known}")
        if name in (self.roles["user"], self.roles["assistant"]) and (
            text is None or (isinstance(text, str) and not text.strip())
        ):
            if text is None and "no_text" in self.drop - {"empty"}:  # the engine would write "None"
                raise DroppedError("no_text")
            self._blank(f"turn {at} is empty")
            return name
        if not isinstance(text, str):
            parts = ": it has a part that is neither text nor a local file" if isinstance(text, list) else ""
            raise BadRowError("type", f"turn {at} has no text in `{content}`{parts}")
        if name == self.roles["call"]:
            self._calls(_parsed(text), at)
        return name

    def _calls(self, calls: Any, at: int) -> None:
        """The engine wants each call's name and arguments, and ends the training where they are not there."""
        for call in calls if isinstance(calls, list) else [calls]:
            if not (isinstance(call, dict) and "name" in call and "arguments" in call):
                text = f'turn {at} calls a tool, and is not JSON like {{"name": "…", "arguments": {{…}}}}'
                raise BadRowError("tools", text)

    def _tools(self, tools: Any) -> None:
        content = _parsed(tools) if isinstance(tools, str) else None
        if not isinstance(content, list):
            text = f"`{self.columns['tools']}` is text that holds a JSON list of tools"
            raise BadRowError("tools", text if isinstance(tools, str) else f"{text}, not {kind_of(tools)}")

    def _answers(self, row: Row) -> None:
        for part in ("chosen", "rejected"):
            value = self._need(row, part)
            if self.base in ("sharegpt", "openai"):
                self._turn(value, 1)
            elif not isinstance(value, str):
                raise BadRowError("type", f"`{self.columns[part]}` is text, not {kind_of(value)}")

    # --- pictures and sound

    def _files(self, row: Row, texts: Iterable[str]) -> None:
        for part in self._media:
            value = row.get(self.columns[part]) or []
            names = value if isinstance(value, list) else [value]
            marks = sum(text.count(MARKS[part]) for text in texts)
            if len(names) != marks:
                text = f"{len(names)} in `{self.columns[part]}`, and {marks} {MARKS[part]} in the text"
                raise BadRowError("media", text)
            for name in names:
                self._file(name, part)

    def _file(self, name: Any, part: str) -> None:
        frames = name if isinstance(name, list) else [name]
        for frame in frames:
            if not isinstance(frame, str):
                raise BadRowError("type", f"`{self.columns[part]}` is a list of paths, not {kind_of(frame)}")
            if frame not in self._exists:
                self._exists[frame] = os.path.isfile(os.path.join(self._folder, frame)) or os.path.isfile(frame)
            if not self._exists[frame]:
                raise BadRowError("media", f"there is no file `{frame}` in {self._folder or 'the run folder'}")


def _is_exchange(turn: Any) -> bool:
    return isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(text, str) for text in turn)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
