"""`python -m docs.site.build` (`make docs`): the documentation and the playground, into build/site. Any warning is an error.

Needs `pip install 'ftdsl[docs]'`, and npm for the playground's Pyodide.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from docs.site.playground.pack import pack

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", "docs/site/mkdocs.yml"]
    built = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False)
    if built.returncode == 0:
        pack(ROOT / "build" / "site" / "playground")
        print("build/site/index.html, build/site/playground/index.html (serve it: python -m http.server -d build/site)")
    return built.returncode


if __name__ == "__main__":
    sys.exit(main())
