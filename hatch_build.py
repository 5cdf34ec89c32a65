"""Build hook: the wheel carries the grammar's tables, made with a fixed hash seed (Lark numbers states by set order)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TableHook(BuildHookInterface[Any]):
    """Adds ft.lark.bin to the wheel; an editable install makes its own on first use."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        folder = Path(tempfile.mkdtemp())
        table = folder / "ft.lark.bin"
        code = (
            "import sys, pathlib; sys.path.insert(0, sys.argv[1]); "
            "from ftdsl.language import lexing; lexing.save(pathlib.Path(sys.argv[2]))"
        )
        env = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run([sys.executable, "-c", code, self.root, str(table)], check=True, env=env)
        build_data["force_include"][str(table)] = "ftdsl/language/ft.lark.bin"
