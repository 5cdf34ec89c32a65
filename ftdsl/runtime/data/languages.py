"""Keeps rows in the languages a recipe names, detected by py3langid (97 languages; its model comes with the package)."""

from __future__ import annotations

from typing import Any

from .blocks import CannotReadError
from .checking import REASONS

HEAD = 2000
"""Characters that are read: more do not improve the detection."""
SURE = 0.5
"""Below this probability a row's language is undetected (too short, code, formulas): it stays, and is counted."""


class Languages:
    """Raises: CannotReadError when a language is not known."""

    def __init__(self, wanted: list[str]) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=SURE)
        known = self._identifier.labels
        for name in wanted:
            if name not in known:
                text = f"`{name}` is not a language that can be detected; known: {', '.join(sorted(known))}"
                raise CannotReadError(text)
        self._wanted = {*wanted, "und"}

    def judge(self, texts: list[str], why: Any) -> int:
        """Mark rows in other languages; the number of undetected ones."""
        untold = 0
        for at, text in enumerate(texts):
            if why[at]:
                continue
            language = self._identifier.classify(text[:HEAD])[0]
            untold += language == "und"
            if language not in self._wanted:
                why[at] = REASONS.index("languages")
        return untold
