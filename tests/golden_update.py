"""`python -m tests.golden_update`: compile the examples anew into tests/golden, to be read and committed."""

from __future__ import annotations

import shutil

from tests.conftest import EXAMPLES
from tests.targets.test_golden import GOLDEN, artifacts


def main() -> None:
    """Write every artifact but copies of runtime modules, which are the same for all."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for recipe in EXAMPLES:
        for name, content in artifacts(recipe).items():
            path = GOLDEN / recipe.stem / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    main()
