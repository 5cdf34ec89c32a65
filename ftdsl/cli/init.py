"""`ftc init`: writes a recipe that runs without changes, with its data."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent.parent

TEMPLATES = {
    "quickstart": "a small model from scratch, on CPU: pretrain, SFT, eval before and after, merge",
    "qlora": "QLoRA of an 8B model on one GPU of 24 GB",
    "align": "SFT, DPO, a gated eval and a merge on eight GPUs",
    "sweep": "axes: the same stage for several learning rates and ranks",
}
_FILES = {"quickstart": "quickstart.ft", "qlora": "qlora_24gb.ft", "align": "align_8gpu.ft", "sweep": "sweep.ft"}


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    names = "\n".join(f"  {name:11} {about}" for name, about in TEMPLATES.items())
    parser = verbs.add_parser(
        "init",
        help="write a recipe that runs without changes",
        description=f"{__doc__}\n\ntemplates:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="where to (default: here)")
    parser.add_argument("--from", dest="template", choices=tuple(TEMPLATES), default="quickstart", metavar="TEMPLATE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 if a file of that name exists already."""
    import re

    from ftdsl.storage import write_files

    source = _examples()
    recipe = source / _FILES[args.template]
    text = recipe.read_text(encoding="utf-8")
    names = [recipe.name, *re.findall(r'file\("(data/[^"]+)"', text)]
    existing = [name for name in dict.fromkeys(names) if os.path.lexists(args.folder / name)]
    if existing:
        print(f"error: {args.folder / existing[0]} exists already", file=sys.stderr)
        return 1
    write_files(args.folder, {name: (source / name).read_bytes() for name in dict.fromkeys(names)}, new=True)
    for name in dict.fromkeys(names):
        print((args.folder / name).as_posix())
    target = (args.folder / recipe.name).as_posix()
    print(f"next: ftc check {target} && ftc run {target}", file=sys.stderr)
    return 0


def _examples() -> Path:
    """The folder of examples: in the installed package, or at the top of a checkout."""
    inside = HERE / "examples"
    return inside if inside.is_dir() else HERE.parent / "examples"
