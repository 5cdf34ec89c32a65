"""Compares the chat format a stage trains with to the tokenizer of the model it starts from.

A template writes marks between the turns (`<|im_start|>`); a tokenizer that does not know them reads them as letters,
and neither the engine nor the loss shows it.
"""

from __future__ import annotations

import re
from typing import Any

from .report import StageError

MARKS = re.compile(r"<[|｜][^<>\s]+[|｜]?>|<[a-z_]+\|>|<(?:start|end)_of_turn>")
"""What looks like a mark of turns, in any of the families' ways."""

ANSWER = "ftdsl-answer"
_EXTRA = ("add_tokens", "add_special_tokens", "new_special_tokens_config")


def faults(config: dict[str, Any]) -> list[StageError]:
    """What is wrong between template and tokenizer; empty where there is nothing to compare (plain text, no template)."""
    name = config.get("template")
    if not name or config.get("stage") == "pt":
        return []
    from llamafactory.data.template import TEMPLATES

    tokenizer = _tokenizer(config)
    template = TEMPLATES.get(str(name))
    if tokenizer is None or template is None:
        return []
    results = [_unknown_marks(str(name), template, tokenizer, config), _no_prompt(str(name), template, tokenizer)]
    return [fault for fault in results if fault]


def blind(config: dict[str, Any]) -> None:
    """For a toy, which has only the side that writes: the template's part for pictures and sound is taken out, since the
    engine asks for a processor even where no row has any (llamafactory/data/mm_plugin.py, _validate_input).
    """
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.template import TEMPLATES

    if template := TEMPLATES.get(str(config.get("template"))):
        template.mm_plugin = get_mm_plugin(name="base")


def _tokenizer(config: dict[str, Any]) -> Any:
    """The tokenizer as stored, before the engine changes it; None if it cannot be loaded alone."""
    from transformers import AutoTokenizer

    try:
        trust = bool(config.get("trust_remote_code"))
        return AutoTokenizer.from_pretrained(config["model_name_or_path"], trust_remote_code=trust)
    except Exception:  # the engine will say it in its own way
        return None


def marks_of(template: Any) -> list[str]:
    """The marks a template writes around turns, and its stop words, in order."""
    marks: dict[str, None] = {}
    for part in (template.format_prefix, template.format_system, template.format_user, template.format_assistant):
        for slot in part.slots:
            if isinstance(slot, str):
                marks |= dict.fromkeys(MARKS.findall(slot.replace("{{content}}", " ")))
            elif isinstance(slot, dict):
                marks[slot["token"]] = None
    return list(marks | dict.fromkeys(template.stop_words))


def _unknown_marks(name: str, template: Any, tokenizer: Any, config: dict[str, Any]) -> StageError | None:
    """Marks that are no tokens here, unless the tokenizer's own chat format spells them out too, or the recipe adds some."""
    if any(config.get(key) for key in _EXTRA):
        return None
    own, known = str(tokenizer.chat_template or ""), tokenizer.get_vocab()
    missing = [mark for mark in marks_of(template) if mark not in known and mark not in own]
    if not missing:
        return None
    shown = ", ".join(f"`{mark}`" for mark in missing[:4])
    quoted = ", ".join(f'"{mark}"' for mark in missing)
    text = f"the template `{name}` writes {shown}, and the tokenizer has no such token"
    help = f"use the model's own template, or add them: tokenizer {{ special = [{quoted}], resize = true }}"
    return StageError(text, "template", "model", help=help, code="FT952")


def _no_prompt(name: str, template: Any, tokenizer: Any) -> StageError | None:
    """A format that does not open the assistant's turn: the model is asked to answer without the marks of its turn."""
    head = "".join(slot for slot in template.format_assistant.apply(content=ANSWER) if isinstance(slot, str))
    before = head.partition(ANSWER)[0].strip()
    if before:
        text = (
            f"the template `{name}` opens an answer with `{before}` in the answer itself, not in what comes before it"
        )
        help = f"end the `user` part with `{before}`, so that it is part of the prompt"
        return StageError(text, "template", help=help, code="FT953")
    if template.replace_jinja_template or not tokenizer.chat_template:
        return None  # the engine saves a format of its own making
    left = _unopened(tokenizer)
    if not left:
        return None
    text = f"the model's own chat template has no generation prompt: asked for one, it does not write `{left}`"
    help = "mend `chat_template` in the model's tokenizer_config.json: {% if add_generation_prompt %}…{% endif %}"
    return StageError(text, "model", "template", help=help, code="FT953")


def _unopened(tokenizer: Any) -> str:
    """Text before an answer that is not in the prompt, without empty thoughts; "" if none is detected."""
    user = {"role": "user", "content": "ftdsl-question"}
    try:
        prompt = tokenizer.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template([user, {"role": "assistant", "content": ANSWER}], tokenize=False)
    except Exception:  # a format for other turns than these
        return ""
    before = str(whole).partition(ANSWER)[0]
    if not before.startswith(prompt) or ANSWER not in whole:
        return ""
    return re.sub(r"</?think>", "", before[len(prompt) :]).strip()
