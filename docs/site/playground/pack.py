"""The playground, complete: Pyodide from npm, and ftc's Python packages in one archive.

Packages with compiled parts work without them (PyYAML, MarkupSafe); ones that have nothing else (pydantic, tree-sitter) stay out.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PYODIDE = "314.0.7"
PACKAGES = (
    "lark",
    "jinja2",
    "markupsafe",
    "yaml",
    "packaging",
    "filelock",
    "platformdirs",
    "rich",
    "markdown_it",
    "mdurl",
    "pygments",
)
FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")


def pack(out: Path) -> None:
    """Writes the page, its scripts, Pyodide and `python.zip` into the folder."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("index.html", "page.js", "worker.js", "glue.py"):
        shutil.copy(HERE / name, out)
    modules = out.parent.parent / "pyodide"
    if not (modules / "node_modules" / "pyodide" / "package.json").exists():
        modules.mkdir(exist_ok=True)
        (modules / "package.json").write_text('{"private": true}', encoding="utf-8")
        npm = [
            "npm",
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            f"pyodide@{PYODIDE}",
        ]
        subprocess.run(npm, cwd=modules, check=True)
    for name in FILES:
        shutil.copy(modules / "node_modules" / "pyodide" / name, out)
    with zipfile.ZipFile(out / "python.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for package in ("ftdsl", *PACKAGES):
            spec = importlib.util.find_spec(package)
            assert spec is not None and spec.origin is not None, package
            folder = Path(spec.origin).parent
            for path in sorted(folder.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".pyd", ".bin"):
                    archive.write(path, (package / path.relative_to(folder)).as_posix())
        archive.write(ROOT / "grammar" / "ft.lark", "ftdsl/language/ft.lark")
        for path in sorted((ROOT / "templates").rglob("*.j2")):
            archive.write(path, ("ftdsl/targets/templates" / path.relative_to(ROOT / "templates")).as_posix())
        for path in sorted((ROOT / "examples").glob("*.ft")):
            archive.write(path, f"ftdsl/examples/{path.name}")
