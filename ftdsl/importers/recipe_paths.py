"""Paths: relative to the folder the engine is started in, and to the recipe's folder."""

from __future__ import annotations

import os.path
import posixpath
import re
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.importers.bash_words import OPEN
from ftdsl.language.values import Term
from ftdsl.record import frozen
from ftdsl.session import Files

LOCAL = (
    "saves",
    "save",
    "models",
    "model",
    "output",
    "outputs",
    "checkpoints",
    "ckpt",
    "ckpts",
    "results",
    "weights",
    "data",
    "out",
    "exp",
    "exps",
    "experiments",
    "runs",
    "run",
    "logs",
    "work_dirs",
    "checkpoint",
    "lora",
    "loras",
    "adapter",
    "adapters",
    "export",
    "exports",
    "merged",
    "merge",
    "trained",
    "finetuned",
    "local",
    "tmp",
    "sft",
    "ckpts",
    "result",
    "saved_models",
    "pretrained_models",
    "pretrained",
    "hf_models",
)
"""First parts of a path that no organisation of a hub is called."""


_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""Absolute paths of Windows: `D:\\models`, `\\\\server\\share`."""


@frozen
class RecipePaths:
    """`root`: the folder the engine is started in; `folder`: the recipe's folder."""

    root: Path
    folder: Path
    files: Files

    def seen(self, path: str) -> str:
        """A path of the engine, as the recipe has to write it."""
        if "://" in path or path.startswith(("/", "~", "$", OPEN)) or _WINDOWS.match(path):
            return path
        if self.root == self.folder:
            return posixpath.normpath(path)
        return Path(os.path.relpath(self.root / path, self.folder)).as_posix()

    def model(self, text: str, **options: Any) -> Term:
        """`hf(…)` for a name of a hub, `file(…)` for a folder."""
        if self.local(text):
            options.pop("revision", None)
            return Term("file", {"path": self.seen(text), **options})
        return Term("hf", {"id": text, **options})

    def local(self, text: str) -> bool:
        """Hub names are `organisation/name`; a folder may look the same, so what is there counts, then what is known."""
        if (
            text.startswith(("/", ".", "~", "$", OPEN))
            or _WINDOWS.match(text)
            or text.count("/") != 1
            or self.files.exists(self.root / text)
        ):
            return True
        return text.partition("/")[0] in LOCAL and not any(
            catalog.listed(engine, text) for engine in catalog.built_in_engines()
        )
