"""`python -m tests.golden_update`: compile the examples anew into tests/golden, write every message of the tests' tables there,
and plans that documents show; to be read and committed."""

from __future__ import annotations

import shutil

from tests.messages import provoked, text_of
from tests.plan.test_docs import rewrite
from tests.targets.test_golden import GOLDEN, VARIANTS, artifacts, place


def main() -> None:
    """Write every artifact but copies of runtime modules, which are the same for all."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for recipe, profile in VARIANTS:
        for name, content in artifacts(recipe, profile).items():
            path = place(recipe, profile) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (GOLDEN / "messages.txt").write_text(text_of(provoked()), encoding="utf-8")
    rewrite()


if __name__ == "__main__":
    main()
