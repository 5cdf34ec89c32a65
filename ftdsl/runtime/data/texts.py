"""The texts of a row: what is asked, and what is answered. Lengths, languages, similarity and leaks look at these alone."""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]


class Texts:
    """Reads the texts of rows of one format that has been checked."""

    def __init__(self, spec: Spec) -> None:
        self.family, _, self.base = spec["format"].rpartition("-")
        self.columns: dict[str, str] = spec["columns"]
        roles: dict[str, str] = spec.get("roles") or {}
        self._role, self._content = roles.get("role", ""), roles.get("content", "")
        self._system = roles.get("system", "system")
        self._before = [self.columns[part] for part in ("system", "tools") if part in self.columns]
        self._history = self.columns.get("history")
        self._question_columns = [self.columns[part] for part in ("prompt", "query") if part in self.columns]
        answers = ("chosen", "rejected") if self.family == "preference" else ("response",)
        self._answers = [self.columns[part] for part in answers if part in self.columns]
        self._read = self._of_columns if self.base in ("alpaca", "text") else self._of_turns

    def of(self, row: dict[str, Any]) -> tuple[list[str], list[str]]:
        """(asked, answered); a row of plain text has nothing but what is asked."""
        questions, answers = self._read(row)
        if not self._before:
            return questions, answers
        before = [text for column in self._before if isinstance(text := row.get(column), str) and text]
        return [*before, *questions], answers

    def question_and_text(self, row: dict[str, Any]) -> tuple[str, str]:
        """(what is asked, all of it) without system prompts and tools, so that rows of several formats can be compared.

        A row of plain text asks nothing, and is all of it.
        """
        questions, answers = self._read(row)
        if self.base not in ("alpaca", "text") and self._is_system(row):
            questions = questions[1:]
        question = "" if self.base == "text" else "\n".join(questions)
        return question, "\n".join((*questions, *answers))

    def _is_system(self, row: dict[str, Any]) -> bool:
        return bool(row[self.columns["messages"]][0].get(self._role) == self._system)

    def _of_columns(self, row: dict[str, Any]) -> tuple[list[str], list[str]]:
        questions = [text for column in self._question_columns if (text := row.get(column))]
        if self._history and (turns := row.get(self._history)):
            questions = [*(text for turn in turns for text in turn), *questions]
        return questions, [text for column in self._answers if (text := row.get(column))]

    def _of_turns(self, row: dict[str, Any]) -> tuple[list[str], list[str]]:
        turns = [self._turn(turn) for turn in row[self.columns["messages"]]]
        if self.family == "preference":
            return turns, [self._turn(row[column]) for column in self._answers]
        return turns[:-1], turns[-1:]

    def _turn(self, turn: dict[str, Any]) -> str:
        text = turn.get(self._content)
        calls = turn.get("tool_calls")
        return (text if isinstance(text, str) else "") + (str(calls) if calls else "")
