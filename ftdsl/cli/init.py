"""`ftc init`: writes a recipe that runs without changes, with its data."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent.parent

TEMPLATES = {
    "quickstart": (
        "quickstart.ft",
        "CPU, 2 minutes",
        "a small model from scratch: pretrain, SFT, eval before and after, merge",
    ),
    "lora": ("lora.ft", "a GPU of 24 GB", "LoRA of a small model on your own rows, scored and merged"),
    "qlora": ("qlora_24gb.ft", "a GPU of 24 GB", "QLoRA of an 8B model"),
    "align": ("align_8gpu.ft", "8 GPUs of 80 GB", "SFT, DPO, a gated eval, a merge"),
    "zero3": ("handbook_14b.ft", "4 GPUs of 80 GB", "LoRA of a 14B model whose weights are split over the GPUs"),
    "grpo": ("grpo.ft", "CPU, 3 minutes", "a small model learns from a reward that is checked (TRL)"),
    "sweep": ("sweep.ft", "a GPU of 40 GB", "axes: the same stage for several learning rates and ranks"),
    "search": ("search.ft", "CPU", "a study: Optuna looks for rate, rank, batch and warm-up"),
}
"""Name -> its file among the examples, what it needs, what it does."""
AGENTS = "AGENTS.md"


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("init", help="write a recipe that runs without changes", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="where to (default: here)")
    parser.add_argument(
        "--from", dest="template", choices=tuple(TEMPLATES), default="quickstart", metavar="TEMPLATE",
        help="which one (default: quickstart)",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="the templates: what each does, and what it needs")
    parser.add_argument("--agents", action="store_true", help=f"also {AGENTS}: how agents work on recipes")
    parser.add_argument("--json", action="store_true", help="with --list: as JSON; else the paths written")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 if a file of that name exists already."""
    import re

    from ftdsl.storage import write_files

    if args.list:
        return _list(args.json)
    source = _examples()
    recipe = source / TEMPLATES[args.template][0]
    text = recipe.read_text(encoding="utf-8")
    names = list(dict.fromkeys([recipe.name, *re.findall(r'file\("(data/[^"]+)"', text)]))
    if args.agents:
        names.append(AGENTS)
    existing = [name for name in names if os.path.lexists(args.folder / name)]
    if existing:
        print(f"error: {args.folder / existing[0]} exists already", file=sys.stderr)
        return 1
    write_files(args.folder, {name: (source / name).read_bytes() for name in names}, new=True)
    written = [(args.folder / name).as_posix() for name in names]
    print(_document({"written": written}) if args.json else "\n".join(written))
    target = written[0]
    print(f"next: ftc check {target} && ftc run {target}", file=sys.stderr)
    return 0


def _list(as_json: bool) -> int:
    if as_json:
        rows = [{"name": name, "needs": needs, "about": about} for name, (_, needs, about) in TEMPLATES.items()]
        print(_document({"templates": rows}))
        return 0
    for name, (_, needs, about) in TEMPLATES.items():
        print(f"{name:11} {needs:16} {about}")
    print("next: ftc init --from NAME", file=sys.stderr)
    return 0


def _document(content: dict[str, object]) -> str:
    import json

    return json.dumps(content, indent=2, ensure_ascii=False)


def _examples() -> Path:
    """The folder of examples: in the installed package, or at the top of a checkout."""
    inside = HERE / "examples"
    return inside if inside.is_dir() else HERE.parent / "examples"
