"""`python -m runtime.data [leaks|origins] SPEC.json …`, in the run folder. 0 when done, 1 when rows do not fit."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from .. import events

NEEDS = {"orjson": "orjson", "numpy": "numpy", "xxhash": "xxhash"}
NEAR, LANGUAGES = {"rensa": "rensa"}, {"py3langid": "py3langid"}


def main(argv: list[str]) -> int:
    """The data stage of a spec; or a program, its spec, and what else it is given."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    program, path, *given = argv if len(argv) > 1 else ("", argv[0])
    spec = json.loads(Path(path).read_text(encoding="utf-8"))
    if missing := _missing(spec):
        why = f"{sys.executable} lacks {missing}, which the data stage needs"
        return events.fail(
            spec["stage"], why, "source", "data", help=f"type: {sys.executable} -m pip install {missing}"
        )
    try:
        if program == "leaks":
            from .leaks import compare

            return compare(spec)
        if program == "origins":
            from .origins import main as origins

            return origins(spec, given)
        from .preparing import prepare

        return prepare(spec)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return events.fail(spec["stage"], f"{error.filename or spec['stage']}: {reason}", "source", "data")


def _missing(spec: dict[str, Any]) -> str:
    from importlib.util import find_spec

    wanted = NEEDS | (NEAR if spec.get("dedupe") == "near" else {}) | (LANGUAGES if spec.get("languages") else {})
    return " ".join(name for name, module in wanted.items() if find_spec(module) is None)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main(sys.argv[1:]))
