"""`ftc import FILE…|-`: a recipe from LLaMA-Factory YAML, a command, a shell script, DeepSpeed and accelerate files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import print_exactly, print_json, read_exactly, read_stdin, show
from ftdsl.credentials import masked

if TYPE_CHECKING:
    from ftdsl.importers.draft import Note
    from ftdsl.importers.imports import Imported


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("import", help="make a recipe of what you have", description=__doc__)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="files, in the order they run; - reads a command or YAML"
    )
    parser.add_argument("-o", "--output", metavar="RECIPE.ft", help="where to write it (default: stdout)")
    parser.add_argument("--force", action="store_true", help="write over a recipe that is there")
    parser.add_argument("--verify", action="store_true", help="compile it again and print every difference")
    parser.add_argument("--json", action="store_true", help="recipe, notes and differences as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 with a recipe; 1 when a file could not be read, or (--verify) a difference has no reason."""
    from ftdsl.importers.files import find
    from ftdsl.importers.imports import import_all
    from ftdsl.session import Session

    if args.output and os.path.lexists(args.output) and not args.force:
        print(f"error: {args.output} exists; --force writes over it", file=sys.stderr)
        return 1
    files = [(Path("stdin" if name == "-" else name), _text(name)) for name in args.files]
    if any(text is None for _, text in files):
        return 1
    session = Session()
    found = find([(path, text or "") for path, text in files], session)
    show(session.sink)
    if session.sink.failed or not found.starts:
        return 1
    target = Path(args.output) if args.output else Path("recipe.ft")
    name = target.stem if args.output else files[0][0].stem
    head = [f"from {', '.join(path.name for path, _ in files)}, by ftc import"]
    made = import_all(found.starts, name, target, head, session)
    notes = sorted([*(note.without(made.secrets) for note in found.notes), *made.notes], key=_place)
    _write(made, notes, args)
    _report(made, notes, args)
    wrong = [one for differences in made.differences.values() for one in differences if not one.why]
    return 1 if args.verify and wrong else 0


def _place(note: Note) -> tuple[str, int]:
    return (note.span.source.name, note.span.start) if note.span else ("~", 0)


def _text(name: str) -> str | None:
    return read_stdin() if name == "-" else read_exactly(Path(name))


def _write(made: Imported, notes: Sequence[Note], args: argparse.Namespace) -> None:
    from ftdsl.storage import write_file

    if args.json:
        print_json(_data(made, notes))
    elif not args.output:
        print_exactly(made.text)
    if args.output:
        write_file(Path(args.output), made.text.encode(), new=not args.force)


def _data(made: Imported, notes: Sequence[Note]) -> dict[str, object]:
    return {
        "recipe": made.text,
        "notes": [{"word": n.word, "where": n.where, "carried": n.carried, "text": n.text} for n in notes],
        "differences": {
            stage: [{"name": d.name, "theirs": d.theirs, "ours": d.ours, "why": d.why} for d in differences]
            for stage, differences in made.differences.items()
        },
        "problems": [
            {
                "code": one.code,
                "severity": one.severity.value,
                "message": masked(one.message, made.secrets, names=False),
            }
            for one in made.found
            if one.severity.value != "info"
        ],
    }


def _report(made: Imported, notes: Sequence[Note], args: argparse.Namespace) -> None:
    """On stderr: what was not carried, what was taken otherwise, what `ftc check` says, what comes next."""
    out = sys.stderr
    for title, some in (
        ("not carried", [note for note in notes if not note.carried]),
        ("taken otherwise", [note for note in notes if note.carried]),
    ):
        if some:
            print(f"{title}:", file=out)
            width = max(len(note.where) for note in some)
            for note in some:
                print(f"  {note.where:{width}}  {note.word}: {note.text}", file=out)
    if args.verify:
        _differences(made)
    problems = [one for one in made.found if one.severity.value == "error"]
    for one in problems:
        print(f"still wrong: {masked(one.message, made.secrets, names=False)}", file=out)
    target = args.output or "recipe.ft"
    print(f"next: ftc {'run' if args.output and not problems else 'check'} {target}", file=out)


def _differences(made: Imported) -> None:
    for stage, differences in made.differences.items():
        wrong = [one for one in differences if not one.why]
        said = "equal" if not differences else f"{len(differences)} differences, {len(wrong)} without a reason"
        print(f"{stage}: compiled again, {said}", file=sys.stderr)
        for one in differences:
            print(f"  {one}", file=sys.stderr)
    if not made.differences:
        print("nothing to compile, so nothing to compare", file=sys.stderr)
