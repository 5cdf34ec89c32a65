"""`python -m tests.golden_update`: compile the examples anew into tests/golden, and write plans that documents show; to be
read and committed."""

from __future__ import annotations

import shutil

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
    rewrite()


if __name__ == "__main__":
    main()
