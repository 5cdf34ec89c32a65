"""`python -m ftdsl.engines.reference_page [--check]`: writes docs/reference.md, every block and key of the language."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ftdsl.catalog.generate import update
from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.engines.reference import BlockEntry, KeyEntry, blocks, functions
from ftdsl.language.types import describe, parse_type

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference.md"

HEAD = """\
# Reference of the language

Every block and key: what it takes, what counts when it is not set, what each engine gets for it, an example.
Generated from `ftdsl/catalog/data/vocabulary.toml` and the engines' overlays by `make generate`; `ftc explain lora.rank` shows
the same in a terminal. [language.md](language.md) explains the forms (stages, `from`, profiles, axes, units),
[methods.md](methods.md) shows what was tried.

A key of a stage may also be written at file level: it is then the default of every stage that has it. `required` means that
a stage without it is an error; `auto` is planned, and `ftc plan` says what was chosen and why.
"""

_TITLES = {"file": "The file", "train": f"Every training stage ({', '.join(TRAINING)})", "dpo": "dpo",
           "stage_quantize": "quantize, the stage"}  # fmt: skip
_STAGES = ("data", "dpo", "kto", "ppo", "grpo", "distill", "eval", "merge", "stage_quantize", "shell")


def page() -> str:
    """The whole page."""
    entries = list(blocks())
    lines = [HEAD, "Blocks: " + " · ".join(f"[{block.name}](#{_anchor(block)})" for block in entries), ""]
    for block in entries:
        lines += _section(block)
    lines += ["## Functions", "", *_functions()]
    return "\n".join(lines).rstrip() + "\n"


def _title(block: BlockEntry) -> str:
    stage = " (stage)" if block.name in _STAGES and block.name != "stage_quantize" else ""
    return _TITLES.get(block.name, f"{block.name}{stage}")


def _anchor(block: BlockEntry) -> str:
    kept = "".join(char for char in _title(block).lower() if char.isalnum() or char in " -_")
    return kept.replace(" ", "-")


def _section(block: BlockEntry) -> Iterator[str]:
    yield f"## {_title(block)}"
    yield ""
    if block.about:
        yield block.about
        yield ""
    if block.where:
        yield f"Stands in: {', '.join(f'`{name}`' for name in block.where)}."
        yield ""
    if block.open:
        yield f"Takes any key; each value is {describe(parse_type(block.open))}."
        yield ""
    if not block.keys:
        return
    yield "| key | takes | default | meaning | becomes | example |"
    yield "|---|---|---|---|---|---|"
    yield from (_row(key) for key in block.keys)
    yield ""


def _row(key: KeyEntry) -> str:
    takes = key.takes + (f", {key.bounds}" if key.bounds else "")
    if key.members:
        takes += ": " + ", ".join(f"`{member}`" for member in key.members)
    becomes = "; ".join(
        f"{engine}: {', '.join(_code(target) for target in targets)}"
        + (f" (its default: {key.engine_defaults[engine]})" if engine in key.engine_defaults else "")
        for engine, targets in key.becomes.items()
    )
    cells = (f"`{key.path}`", takes, key.default or "none", key.about, becomes, f"`{key.example}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(target: str) -> str:
    name, bracket, rest = target.partition(" (")
    return target if target == "worked out" else f"`{name}`{bracket}{rest}"


def _functions() -> Iterator[str]:
    yield "| function | gives | arguments |"
    yield "|---|---|---|"
    for function in functions():
        unnamed = [f"`{name}`" for name in function.positional]
        named = [f"`{name} =`" for name in function.options if name not in function.positional]
        yield f"| `{function.name}` | {function.use} | {', '.join([*unnamed, *named])} |"


def main(check: bool) -> int:
    """Write the page when it is out of date, or (check) only say so: exit 1."""
    return update({PAGE: page()}, check)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
