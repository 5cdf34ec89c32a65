"""Build hook: the wheel carries the grammar's tables, made with a fixed hash seed (Lark numbers states by set order), and
the man page, made from the command line's own parser."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TableHook(BuildHookInterface[Any]):
    """Adds ft.lark.bin and ftc.1 to the wheel; an editable install makes the table on first use, and has no man page."""

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
        page = folder / "ftc.1"
        arguments = [
            *("--module", "ftdsl.cli.main", "--function", "parser", "--prog", "ftc", "--project-name", "ftdsl"),
            *("--version", self.metadata.version, "--manual-title", "ftdsl"),
            *("--description", "launch LLM fine-tuning from a recipe", "--output", str(page)),
        ]
        env["SOURCE_DATE_EPOCH"] = env.get("SOURCE_DATE_EPOCH", "0")  # the same page whenever it is built
        env.update(PYTHONPATH=os.pathsep.join([self.root, *sys.path]), COLUMNS="100")
        subprocess.run(
            [sys.executable, "-c", "from argparse_manpage.cli import main; main()", *arguments], check=True, env=env
        )
        build_data["shared_data"][str(page)] = "share/man/man1/ftc.1"
