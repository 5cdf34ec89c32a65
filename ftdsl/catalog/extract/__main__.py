"""`python -m ftdsl.catalog.extract [PACKAGE…] [--cache DIR] [--latest]`: facts of all versions -> data/history/.

Downloads what `versions.toml` lists with pip (wheels only, where there are any), into a folder that may be kept.
`--latest` first adds each package's newest releases to the list. `--site DIR` compares instead: it extracts from an
environment's site-packages and says what differs from what is committed (exit 1).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

from ftdsl.catalog.extract import timelines
from ftdsl.catalog.extract.packages import Installed, Package, fetched, published
from ftdsl.catalog.extract.pins import newest, pins

HISTORY = Path(__file__).parent.parent / "data" / "history"
VERSIONS = Path(__file__).parent / "versions.toml"
ENGINES = ("llamafactory",)
HELPED = ("llamafactory", "transformers", "accelerate")
"""Packages whose keys users write: their help texts are kept."""


def known_versions() -> dict[str, list[str]]:
    """Package -> versions whose facts are kept, oldest first."""
    listed: dict[str, list[str]] = tomllib.loads(VERSIONS.read_text(encoding="utf-8"))
    return listed


def facts(package: Package) -> dict[str, dict[str, Any]]:
    """All tables of one version of a package."""
    module = import_module(f"ftdsl.catalog.extract.of_{package.name}")
    tables: dict[str, dict[str, Any]] = module.tables(package)
    tables["pins"] = pins(package, tables.pop("checks", {}))
    return tables


def write(name: str, versions: list[str], cache: Path) -> list[Path]:
    """Extract every version and write one file a table, and the newest help texts. Returns the files."""
    by_version = []
    for version in versions:
        print(f"{name} {version}", file=sys.stderr)
        by_version.append((version, facts(fetched(name, version, cache))))
    if name in ENGINES:
        _admitted(by_version)
    written = []
    for table in dict.fromkeys(table for _, tables in by_version for table in tables):
        each = [(version, tables.get(table, {})) for version, tables in by_version]
        head = {"package": name, "table": table}
        written.append(_put(HISTORY / name / f"{table}.json", timelines.text_of(head, timelines.fold(each))))
        if (help := timelines.helps(each)) and name in HELPED:
            written.append(_put(HISTORY / name / f"{table}.help.json", timelines.text_of({"package": name}, help)))
    return written


def _admitted(by_version: list[tuple[str, dict[str, dict[str, Any]]]]) -> None:
    """Add to each pin of an engine the newest known version that it admits, which is used if nothing is installed."""
    known = known_versions()
    for _, tables in by_version:
        for name, pin in tables["pins"].items():
            if name in known and (best := newest(pin, known[name])):
                pin["newest"] = best


def _put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def differences(package: Package) -> list[str]:
    """Differences between an installed package's sources and the committed history of its version."""
    from ftdsl.catalog import history

    differing = []
    for table, names in facts(package).items():
        committed = history.table(package.name, table)
        if package.version not in committed.versions:
            return [f"{package.name} {package.version} is not among the versions that are kept"]
        known = committed.at(package.version)
        for name in sorted(known.keys() | names.keys()):
            extracted = timelines.fold([("", {name: names[name]})])[name][""] if name in names else None
            extracted = json.loads(json.dumps(extracted))  # as it is kept: JSON has no tuples
            kept = (
                {k: v for k, v in known[name].items() if k != "newest"} if table == "pins" and name in known else None
            )
            if extracted != (kept if table == "pins" else known.get(name)):
                differing.append(f"{package.name} {package.version} {table}: {name}")
    return differing


def main(argv: list[str]) -> int:
    """Write, or compare: exit 1 when something differs."""
    parser = argparse.ArgumentParser(prog="python -m ftdsl.catalog.extract", description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep downloads here")
    parser.add_argument("--latest", action="store_true", help="add the newest releases to versions.toml first")
    parser.add_argument("--site", type=Path, metavar="DIR", help="compare with these site-packages; write nothing")
    args = parser.parse_args(argv)
    names = args.packages or list(known_versions())
    if args.site:
        differing = [line for name in names for line in differences(Installed(name, args.site))]
        print("\n".join(differing) or "the catalogue agrees with what is installed")
        return int(bool(differing))
    if args.latest:
        _add_latest(names)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for path in write(name, known_versions()[name], args.cache or Path(folder)):
                print(f"wrote {path.relative_to(HISTORY.parent)} ({path.stat().st_size // 1024} KiB)")
    _put(HISTORY / "versions.json", json.dumps(known_versions()).replace("], ", "],\n") + "\n")
    return 0


def _add_latest(names: list[str]) -> None:
    """Add the last patch of each newer minor release; exact pins of an engine stay as listed."""
    known = known_versions()
    for name in names:
        after = [int(part) for part in known[name][-1].split(".")]
        last = {tuple(version.split(".")[:2]): version for version in published(name)}
        known[name] += [version for version in last.values() if [int(part) for part in version.split(".")] > after]
    head = VERSIONS.read_text(encoding="utf-8").partition("\n\n")[0]
    lines = [f"{name} = [{', '.join(repr(version) for version in listed)}]" for name, listed in known.items()]
    VERSIONS.write_text(f"{head}\n\n" + "\n".join(lines).replace("'", '"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
