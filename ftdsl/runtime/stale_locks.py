"""Locks of torch's extensions, which DeepSpeed builds when they are first needed.

A build that was killed leaves its lock, and every rank that needs the extension then waits for it without end and without a
word (torch/utils/file_baton.py, 2.13; seen here with an offloaded optimizer). Standard library.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

YOUNG = 60.0
"""Seconds: before and after its compiler runs, a build is a few seconds of Python."""


def extensions_folder() -> Path:
    """Where torch builds extensions (torch/utils/cpp_extension.py, _get_build_directory)."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(cache) / "torch_extensions")


def unlock() -> list[Path]:
    """Remove the locks of builds that nobody works on; which those were."""
    locks = [lock for depth in ("*/lock", "*/*/lock") for lock in extensions_folder().glob(depth)]
    stale = [lock for lock in locks if _old(lock) and not _built(lock.parent.resolve())]
    for lock in stale:
        lock.unlink(missing_ok=True)
    return stale


def _old(lock: Path) -> bool:
    try:
        return time.time() - lock.stat().st_mtime > YOUNG
    except OSError:
        return False  # given back meanwhile


def _built(folder: Path) -> bool:
    """Whether a process works in the folder, as ninja and the compilers do. Where that cannot be seen it is thought so."""
    processes = Path("/proc")
    if not processes.is_dir():
        return True
    for link in processes.glob("[0-9]*/cwd"):
        try:
            if link.resolve() == folder:
                return True
        except OSError:  # it ended, or is another user's
            continue
    return False
