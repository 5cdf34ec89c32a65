"""Chat formats: conversations to token ids, turn by turn.

A part of a format is a list of slots: a text with `{{content}}`, `{"special": "eos_token"}` or `{"token": "<|user|>"}`. The order
of parts and the treatment of thoughts are those of LLaMA-Factory 0.9.5 (data/template.py), so that a row gets the same ids in
both engines; tests/real/test_trl_parity.py compares them. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..report import StageError

Slot = str | dict[str, str]
Message = tuple[str, str]
"""(user, assistant or tool; the text)."""
Ids = list[int]

CONTENT = "{{content}}"
SPECIAL = ("bos_token", "eos_token")
"""Other names between braces write nothing there (phi_small has one)."""
_EOS: Slot = {"special": "eos_token"}


@dataclass(frozen=True)
class Format:
    """A chat format.

    kind: how parts are joined: Template; Llama2Template (the system prompt is part of the first user turn); ReasoningTemplate (an
    answer without thoughts gets empty ones); Glm47ReasoningTemplate (the same, with the closing mark alone). thought: the marks
    around thoughts. thinking: True: empty thoughts count in the loss; False: thoughts are removed; None: neither. keep_thinking:
    thoughts of earlier turns stay. efficient_eos: one end-of-sequence token ends the row, none its turns. replace_eos: the first
    of `stop` becomes the tokenizer's end-of-sequence token.
    """

    name: str
    prefix: tuple[Slot, ...] = ()
    system: tuple[Slot, ...] = (CONTENT,)
    user: tuple[Slot, ...] = (CONTENT,)
    assistant: tuple[Slot, ...] = (CONTENT, _EOS)
    tool: tuple[Slot, ...] = ()
    default_system: str = ""
    stop: tuple[str, ...] = ()
    thought: tuple[str, str] = ("<think>\n", "\n</think>\n\n")
    efficient_eos: bool = False
    replace_eos: bool = False
    kind: str = "Template"
    thinking: bool | None = True
    keep_thinking: bool = False

    @property
    def reasons(self) -> bool:
        return self.kind.endswith("ReasoningTemplate")

    def prepare(self, tokenizer: Any) -> None:
        """Give the tokenizer the end-of-sequence, padding and stop tokens of the format. Raises: StageError for tokens that it
        lacks."""
        stop = list(self.stop)
        special = {}
        if self.replace_eos and stop:
            special["eos_token"] = stop.pop(0)
        elif tokenizer.eos_token_id is None:
            special["eos_token"] = "<|endoftext|>"
        known = tokenizer.get_vocab()
        missing = [token for token in (*special.values(), *stop) if token not in known]
        if missing:
            shown = ", ".join(f"`{token}`" for token in missing)
            text = f"the template `{self.name}` writes {shown}, and the tokenizer has no such token"
            raise StageError(text, "template", "model", help="use the model's own template", code="FT952")
        if special:
            tokenizer.add_special_tokens(special)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    def turns(self, tokenizer: Any, messages: Sequence[Message], system: str = "") -> list[Ids]:
        """The ids of each message, with what belongs before it."""
        system = system or self.default_system
        encoded = []
        for at, (role, text) in enumerate(messages):
            slots: list[Slot] = []
            if at == 0:
                slots += self.prefix
                if system and self.kind == "Llama2Template":
                    text = _filled(self.system, system)[0] + text  # type: ignore[operator]
                elif system:
                    slots += _filled(self.system, system)
            slots += _filled(self._part(role), text, str(at // 2))
            encoded.append(_ids(tokenizer, slots))
        return encoded

    def _part(self, role: str) -> tuple[Slot, ...]:
        return {"user": self.user, "assistant": self.assistant, "tool": self.tool or self.user}[role]

    # --- thoughts

    def pairs(
        self, tokenizer: Any, messages: Sequence[Message], system: str = "", *, last_only: bool = False
    ) -> list[tuple[Ids, Ids]]:
        """(prompt, answer) of every turn. last_only: only the last answer counts, so earlier thoughts are dropped."""
        if not self.reasons:
            encoded = self.turns(tokenizer, messages, system)
            return list(zip(encoded[::2], encoded[1::2], strict=True))
        drop = last_only and not self.keep_thinking
        messages = list(messages)
        if self.thinking is False:
            messages = self._without_thoughts(messages, range(1, len(messages), 2))
        if drop:
            messages = self._without_thoughts(messages, range(1, len(messages) - 2, 2))
        encoded = self.turns(tokenizer, messages, system)
        for at in [len(messages) - 2] if drop else range(0, len(messages), 2):
            self._add_empty(tokenizer, encoded, at, messages[at + 1][1])
        return list(zip(encoded[::2], encoded[1::2], strict=True))

    def prompt_and_answer(self, tokenizer: Any, messages: Sequence[Message], system: str = "") -> tuple[Ids, Ids]:
        """All but the last message as one prompt, and the last message."""
        messages = list(messages)
        if self.reasons:
            if not self.keep_thinking:
                messages = self._without_thoughts(messages, range(1, len(messages) - 2, 2))
            if self.thinking is False:
                messages = self._without_thoughts(messages, [len(messages) - 1])
        encoded = self.turns(tokenizer, messages, system)
        ends = [[id for ids in encoded[:-1] for id in ids], encoded[-1]]
        if self.reasons:
            self._add_empty(tokenizer, ends, 0, messages[-1][1])
        return ends[0], ends[1]

    def _without_thoughts(self, messages: Sequence[Message], at: Sequence[int]) -> list[Message]:
        begin, end = map(re.escape, self.thought)
        thought = re.compile(f"{begin}(.*?){end}", re.DOTALL)
        return [
            (role, thought.sub("", text).lstrip("\n")) if index in at else (role, text)
            for index, (role, text) in enumerate(messages)
        ]

    def _add_empty(self, tokenizer: Any, encoded: list[Ids], at: int, answer: str) -> None:
        """Empty thoughts where the answer after `at` has none: in the prompt, or (where thinking is trained) in the answer."""
        if any(mark.strip() in answer for mark in self.thought):
            return
        empty = self.thought[1] if self.kind.startswith("Glm47") else "".join(self.thought)
        ids = tokenizer.encode(empty, add_special_tokens=False)
        if self.thinking:
            encoded[at + 1] = ids + encoded[at + 1]
        else:
            encoded[at] = encoded[at] + ids


def format_of(spec: dict[str, Any]) -> Format:
    """From the document's `template`. Raises: TypeError for a field there is not."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}
    return Format(**fields)


def _filled(slots: Sequence[Slot], content: str, index: str = "0") -> list[Slot]:
    return [
        slot.replace(CONTENT, content, 1).replace("{{idx}}", index, 1) if isinstance(slot, str) else slot
        for slot in slots
    ]


def _ids(tokenizer: Any, slots: Sequence[Slot]) -> Ids:
    ids: Ids = []
    for slot in slots:
        if isinstance(slot, str):
            ids += tokenizer.encode(slot, add_special_tokens=False) if slot else []
        elif "token" in slot:
            ids.append(tokenizer.convert_tokens_to_ids(slot["token"]))
        elif slot["special"] in SPECIAL and (id := getattr(tokenizer, f"{slot['special']}_id")) is not None:
            ids.append(id)
    return ids
