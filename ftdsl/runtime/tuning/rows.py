"""Rows of files to conversations: the shapes alpaca, sharegpt and openai. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .formats import Message


@dataclass(frozen=True)
class Row:
    """A conversation. messages: in turn, the first a user's; answers: chosen and rejected, or the one that is judged; good:
    whether that one is wanted (kto)."""

    messages: tuple[Message, ...]
    system: str = ""
    answers: tuple[str, ...] = ()
    good: bool | None = None


@dataclass(frozen=True)
class Shape:
    """How rows of a source are read. columns: part -> column; roles: name of the field or the speaker; pairs: rows have a chosen
    and a rejected answer; labelled: rows have a label; asks: an answer may be missing."""

    format: str
    columns: Mapping[str, str]
    roles: Mapping[str, str]
    pairs: bool = False
    labelled: bool = False
    asks: bool = False

    def text(self, row: Mapping[str, Any]) -> str:
        """A row for pretraining."""
        return str(row[self.columns["prompt"]])

    def read(self, row: Mapping[str, Any]) -> Row | None:
        """The conversation; None for a row that is malformed: turns out of order, or no answer."""
        conversation = self._alpaca(row) if self.format == "alpaca" else self._chat(row)
        if conversation is None or not conversation.messages:
            return None
        if not self.asks and len(conversation.messages) % 2 != (1 if self.pairs or self.labelled else 0):
            return None
        return conversation

    def _part(self, row: Mapping[str, Any], part: str) -> Any:
        column = self.columns.get(part)
        return row.get(column) if column else None

    def _alpaca(self, row: Mapping[str, Any]) -> Row | None:
        messages: list[Message] = []
        for asked, answered in self._part(row, "history") or ():
            messages += [("user", asked), ("assistant", answered)]
        asked = [text for part in ("prompt", "query") if (text := self._part(row, part))]
        messages.append(("user", "\n".join(asked)))
        system = self._part(row, "system") or ""
        if self.pairs:
            answers = self._part(row, "chosen"), self._part(row, "rejected")
            return Row(tuple(messages), system, answers) if all(isinstance(text, str) for text in answers) else None
        answer = self._part(row, "response")
        if self.asks and not isinstance(answer, str):
            return Row(tuple(messages), system)
        if not isinstance(answer, str):
            return None
        if self.labelled:
            return Row(tuple(messages), system, (answer,), bool(self._part(row, "label")))
        return Row((*messages, ("assistant", answer)), system)

    def _chat(self, row: Mapping[str, Any]) -> Row | None:
        role, content, speakers = self.roles["role"], self.roles["content"], self._speakers()
        turns = [(speakers.get(turn[role], ""), turn[content]) for turn in self._part(row, "messages") or ()]
        system = self._part(row, "system") or ""
        if turns and turns[0][0] == "system":
            system, turns = turns[0][1], turns[1:]
        if not _in_turn(turns):
            return None
        if self.pairs:
            answers = [self._part(row, part) for part in ("chosen", "rejected")]
            return Row(tuple(turns), system, tuple(answer[content] for answer in answers))
        if self.labelled:
            good = bool(self._part(row, "label"))
            return Row(tuple(turns[:-1]), system, (turns[-1][1],), good) if turns else None
        return Row(tuple(turns), system)

    def _speakers(self) -> dict[str, str]:
        return {self.roles[name]: name for name in ("user", "assistant", "tool", "system") if name in self.roles}


def _in_turn(turns: Iterable[Message]) -> bool:
    """Whether users (or tools) and the assistant speak in turn."""
    return all(role == "assistant" if at % 2 else role in ("user", "tool") for at, (role, _) in enumerate(turns))
