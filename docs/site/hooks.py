"""What MkDocs is told beyond mkdocs.yml: pages outside of docs/ that the pages link to, and the list of decisions."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Pages from the top of the repository."""
LINK = re.compile(r"(\]\()((?:\.\./)+[\w./-]+)((?:#[\w-]+)?\))")


def on_config(config: Any) -> Any:
    """Decisions and pages that have no place in the navigation yet are listed in it."""
    listed = set(re.findall(r"[\w/-]+\.md", str(config.nav)))
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    other = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in listed)
    for section in config.nav:
        if "Project" in section:
            section["Project"] += [*other, *PAGES, {"Decisions": [f"adr/{path.name}" for path in decisions]}]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Files of the repository that pages link to join the site: Markdown as pages, the rest as they are."""
    wanted = set(PAGES)
    for page in files.documentation_pages():
        for target in _outside(page.src_uri, page.content_string):
            wanted.add(target)
    for name in sorted(wanted):
        for path in sorted((ROOT / name).rglob("*")) if (ROOT / name).is_dir() else [ROOT / name]:
            if path.is_file() and not {"node_modules", "dist"} & set(path.parts):
                uri = path.relative_to(ROOT).as_posix()
                served = uri if uri in PAGES else f"files/{uri}.txt"
                files.append(File.generated(config, served, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Links that leave docs/ lead to the copies of `on_files`; of the two pages from above, links into docs/ stay."""
    uri = page.file.src_uri
    if uri in PAGES:
        return re.sub(r"\]\((?!http|#)([^)#]+)", lambda match: f"]({_from_top(match[1])}", markdown)

    def rewritten(match: re.Match[str]) -> str:
        target = _leaves(uri, match[2])
        if target is None:
            return match[0]
        up = "../" * uri.count("/")
        served = target if target in PAGES else _served(target)
        return f"{match[1]}{up}{served}{match[3]}"

    return LINK.sub(rewritten, markdown)


def _from_top(target: str) -> str:
    if target in PAGES:
        return target
    if target == "docs/adr/":
        return "adr/0001-run-folder-is-a-copy.md"
    return target.removeprefix("docs/") if target.startswith("docs/") else _served(target.rstrip("/"))


def _served(target: str) -> str:
    """The copy of a file, or of the first page of a folder."""
    path = ROOT / target
    if path.is_dir():
        first = path / "README.md" if (path / "README.md").exists() else min(p for p in path.iterdir() if p.is_file())
        return f"files/{first.relative_to(ROOT).as_posix()}.txt"
    return f"files/{target}.txt"


def _leaves(uri: str, link: str) -> str | None:
    """The path, from the top, of a link that leaves docs/; None where it stays."""
    target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), link))
    return None if target.startswith(("docs/", "..")) else target


def _outside(uri: str, markdown: str) -> list[str]:
    return [target for match in LINK.finditer(markdown) if (target := _leaves(uri, match[2]))]
