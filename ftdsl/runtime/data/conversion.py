"""Rows in the layouts of other tools become rows of the format that the engine reads.

TRL's conversational columns, OpenAI's fine-tuning files, `tools` as lists, content parts, and sources of another format
than that of their data stage. A row that needs nothing is returned as it is. `ftc check` uses the same code on first rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
CHATS = ("sharegpt", "openai")
MARKS = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}
"""What stands in a text for each file (llamafactory/extras/constants.py)."""
_PARTS = {"image": "images", "image_url": "images", "video": "videos", "video_url": "videos", "audio": "audios",
          "input_audio": "audios", "audio_url": "audios"}  # fmt: skip
_SPEAKERS = ("user", "assistant", "tool", "call", "system")


class Converter:
    """Converts rows of one source.

    spec: `format`, `columns` and `roles` of the rows that are written; source: the same keys of the source, where it differs.
    """

    def __init__(self, spec: Mapping[str, Any], source: Mapping[str, Any] | None = None) -> None:
        source = source or {}
        self.family, _, self.base = str(spec["format"]).rpartition("-")
        self.columns: Mapping[str, str] = spec["columns"]
        self.roles: Mapping[str, str] = spec.get("roles") or {}
        self._base = str(source.get("format") or self.base)
        self._columns: Mapping[str, str] = source.get("columns") or self.columns
        self._roles: Mapping[str, str] = source.get("roles") or (self.roles if self._base in CHATS else {})
        self._messages = self.columns.get("messages", "messages")
        self._tools = self.columns.get("tools", "tools")
        self._speakers = {self._roles.get(part, part): self.roles[part] for part in _SPEAKERS if part in self.roles}

    def row(self, row: Any) -> Any:
        """The row itself if the engine reads it as it is, else a new one."""
        if not isinstance(row, dict):
            return row
        if self.base in CHATS:
            row = self._chat(row)
        tools = row.get(self._tools)
        if isinstance(tools, list | dict):
            return {**row, self._tools: json.dumps(tools, ensure_ascii=False) if tools else ""}
        return row

    def _chat(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._base not in CHATS:
            row = self._from_columns(row)
        elif not isinstance(row.get(own := self._columns.get("messages", self._messages)), list):
            row = self._gathered(row)
        elif own != self._messages or self._roles != self.roles:
            row = self._renamed(row, own)
        return self._without_parts(row)

    # --- layouts

    def _gathered(self, row: dict[str, Any]) -> dict[str, Any]:
        """TRL: `prompt` and `completion`, or `chosen` and `rejected`, are lists of messages. OpenAI: `input.messages`."""
        given = row.get("input")
        if isinstance(given, dict) and isinstance(given.get("messages"), list):
            made = {self._messages: given["messages"], self._tools: given.get("tools")}
            for column, answer in (("preferred_output", "chosen"), ("non_preferred_output", "rejected")):
                if column in row:
                    made[answer] = _single(row[column])
            return {name: value for name, value in made.items() if value is not None}
        prompt, completion = row.get("prompt"), row.get("completion")
        chosen, rejected = row.get("chosen"), row.get("rejected")
        if isinstance(chosen, list) and isinstance(rejected, list) and chosen and rejected:
            rest = {name: value for name, value in row.items() if name not in ("prompt", "chosen", "rejected")}
            before = prompt if isinstance(prompt, list) else chosen[:-1]
            pair = (_last(chosen, before), _last(rejected, before))
            return {self._messages: before, "chosen": pair[0], "rejected": pair[1], **rest}
        if isinstance(prompt, list):
            rest = {name: value for name, value in row.items() if name not in ("prompt", "completion")}
            answers = completion if isinstance(completion, list) else []
            return {self._messages: [*prompt, *answers], **rest}
        return row

    def _from_columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """Questions and answers in columns (alpaca) as turns."""
        names, parts = self._columns, {part: row.get(column) for part, column in self._columns.items()}
        turns = [self._turn("system", parts["system"])] if parts.get("system") else []
        for pair in parts.get("history") or ():
            question, answer = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)  # refused as empty
            turns += [self._turn("user", question), self._turn("assistant", answer)]
        asked = [text for part in ("prompt", "query") if (text := parts.get(part))]
        turns.append(self._turn("user", "\n".join(map(str, asked)) if asked else parts.get("prompt")))
        moved = {names[part] for part in ("prompt", "query", "response", "history", "system") if part in names}
        made: dict[str, Any] = {self._messages: turns}
        if self.family == "preference":
            made |= {part: self._turn("assistant", parts.get(part)) for part in ("chosen", "rejected")}
            moved |= {names[part] for part in ("chosen", "rejected") if part in names}
        else:
            turns.append(self._turn("assistant", parts.get("response")))
        return made | {name: value for name, value in row.items() if name not in moved}

    def _turn(self, role: str, text: Any) -> dict[str, Any]:
        return {self.roles["role"]: self.roles[role], self.roles["content"]: text}

    def _renamed(self, row: dict[str, Any], own: str) -> dict[str, Any]:
        """Turns of another source with the keys and speakers of this format."""
        made = {name: value for name, value in row.items() if name != own}
        made[self._messages] = [self._spoken(turn) for turn in row[own]]
        for answer in ("chosen", "rejected"):
            if isinstance(row.get(answer), dict):
                made[answer] = self._spoken(row[answer])
        return made

    def _spoken(self, turn: Any) -> Any:
        role, content = self._roles["role"], self._roles["content"]
        if not isinstance(turn, dict) or role not in turn:
            return turn
        rest = {name: value for name, value in turn.items() if name not in (role, content)}
        speaker = self._speakers.get(turn[role], turn[role]) if isinstance(turn[role], str) else turn[role]
        return {self.roles["role"]: speaker, self.roles["content"]: turn.get(content), **rest}

    # --- content parts

    def _without_parts(self, row: dict[str, Any]) -> dict[str, Any]:
        turns, content = row.get(self._messages), self.roles["content"]
        answers = [name for name in ("chosen", "rejected") if isinstance(row.get(name), dict)]
        if not isinstance(turns, list):
            return row
        every = [*turns, *(row[name] for name in answers)]
        if not any(isinstance(turn, dict) and isinstance(turn.get(content), list) for turn in every):
            return row
        files: dict[str, list[str]] = {}
        row = {**row, self._messages: [self._plain(turn, files) for turn in turns]}
        for name in answers:
            row[name] = self._plain(row[name], files)
        for part, names in files.items():
            column = self.columns.get(part, part)
            row[column] = [*(row.get(column) or []), *names]
        return row

    def _plain(self, turn: Any, files: dict[str, list[str]]) -> Any:
        """A turn whose content is text; as it is if a part cannot become text."""
        content = self.roles["content"]
        if not isinstance(turn, dict) or not isinstance(turn.get(content), list):
            return turn
        texts = [_text_of(part, files) for part in turn[content]]
        return turn if None in texts else {**turn, content: "".join(map(str, texts))}


def _text_of(part: Any, files: dict[str, list[str]]) -> str | None:
    """The text of a content part; a picture, film or sound is a mark, and its path is added to `files`."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return None
    if part.get("type") in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = str(part.get("type"))
    if kind not in _PARTS:
        return None
    value = part.get(kind, part.get("path", part.get("url")))
    path = value.get("url", value.get("path")) if isinstance(value, dict) else value
    if isinstance(path, str):
        path = path.removeprefix("file://")
        if "://" in path or path.startswith("data:"):
            return None
        files.setdefault(_PARTS[kind], []).append(path)
    elif path is not None:
        return None
    return MARKS[_PARTS[kind]]


def _single(answers: Any) -> Any:
    return answers[0] if isinstance(answers, list) and len(answers) == 1 else answers


def _last(turns: list[Any], before: list[Any]) -> Any:
    """The answer of a list of turns: what follows the prompt; the list itself if that is not one turn."""
    rest = turns[len(before) :] if turns[: len(before)] == before else turns
    return _single(rest)
