"""`ftc import FILE…|-`: makes a recipe of a YAML of LLaMA-Factory or TRL, a command, a script, DeepSpeed and accelerate files."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import print_exactly, print_json, read_exactly, read_stdin, show
from ftdsl.credentials import masked

if TYPE_CHECKING:
    from ftdsl.importers.draft import Note
    from ftdsl.importers.imports import Imported


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("import", help="make a recipe of existing files", description=__doc__)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="files, in the order they run; - reads a command or YAML"
    )
    parser.add_argument("-o", "--output", metavar="RECIPE.ft", help="where to write it (default: stdout)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing recipe")
    parser.add_argument("--verify", action="store_true", help="compile it again and print every difference")
    parser.add_argument("--json", action="store_true", help="recipe, notes and differences as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 with a recipe; 1 if a file cannot be read, or (--verify) a difference has no reason."""
    from ftdsl.importers.files import find
    from ftdsl.importers.imports import import_all
    from ftdsl.session import Session

    if args.output and os.path.lexists(args.output) and not args.force:
        print(f"error: {args.output} exists; --force overwrites it", file=sys.stderr)
        return 1
    files = [(Path("stdin" if name == "-" else name), _text(name)) for name in args.files]
    if any(text is None for _, text in files):
        return 1
    session = Session()
    inputs = find([(path, text or "") for path, text in files], session)
    show(session.sink)
    if session.sink.failed or not inputs.starts:
        return 1
    target = Path(args.output) if args.output else Path("recipe.ft")
    name = target.stem if args.output else files[0][0].stem
    head = [f"from {', '.join(path.name for path, _ in files)}, by ftc import"]
    with _folder(target.parent):  # paths are seen from it
        imported = import_all(inputs.starts, name, target, head, session)
        notes = sorted([*(note.without(imported.secrets) for note in inputs.notes), *imported.notes], key=_order)
        _write(imported, notes, args)
    _report(imported, notes, args)
    wrong = [
        difference for differences in imported.differences.values() for difference in differences if not difference.why
    ]
    return 1 if args.verify and wrong else 0


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """The recipe's folder, made if it is missing, and removed again if no recipe is written into it."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _order(note: Note) -> tuple[str, int]:
    return (note.span.source.name, note.span.start) if note.span else ("~", 0)


def _text(name: str) -> str | None:
    return read_stdin() if name == "-" else read_exactly(Path(name))


def _write(imported: Imported, notes: Sequence[Note], args: argparse.Namespace) -> None:
    from ftdsl.storage import write_file

    if args.json:
        print_json(_data(imported, notes))
    elif not args.output:
        print_exactly(imported.text)
    if args.output:
        write_file(Path(args.output), imported.text.encode(), new=not args.force)


def _data(imported: Imported, notes: Sequence[Note]) -> dict[str, object]:
    return {
        "recipe": imported.text,
        "notes": [{"word": n.word, "where": n.where, "carried": n.carried, "text": n.text} for n in notes],
        "differences": {
            stage: [{"name": d.name, "theirs": d.theirs, "ours": d.ours, "why": d.why} for d in differences]
            for stage, differences in imported.differences.items()
        },
        "problems": [
            {
                "code": diagnostic.code,
                "severity": diagnostic.severity.value,
                "message": masked(diagnostic.message, imported.secrets, names=False),
            }
            for diagnostic in imported.diagnostics
            if diagnostic.severity.value != "info"
        ],
    }


def _report(made: Imported, notes: Sequence[Note], args: argparse.Namespace) -> None:
    """On stderr: what was not carried, what was taken otherwise, what `ftc check` says, what comes next."""
    from ftdsl.language.printing import comment

    out = sys.stderr
    for title, selected in (
        ("not carried over", [note for note in notes if not note.carried]),
        ("interpreted", [note for note in notes if note.carried]),
    ):
        if selected:
            print(f"{title}:", file=out)
            width = max(len(note.where) for note in selected)
            for note in selected:
                print(f"  {note.where:{width}}  {note.word}: {note.text}", file=out)
    if args.verify:
        _differences(made)
    problems = [diagnostic for diagnostic in made.diagnostics if diagnostic.severity.value == "error"]
    for message in dict.fromkeys(diagnostic.message for diagnostic in problems):
        print(f"still wrong: {comment(masked(message, made.secrets, names=False))}", file=out)
    target = args.output or "recipe.ft"
    if not made.checked.jobs and not problems:
        files = " ".join(name for name in args.files if name != "-")
        print(f"next: add a stage (`sft {{ … }}`) to {target}: nothing here trains; or import the file that does with it: "
              f"ftc import TRAIN.yaml {files}".rstrip(), file=out)  # fmt: skip
        return
    print(f"next: ftc {'run' if args.output and not problems else 'check'} {target}", file=out)


def _differences(imported: Imported) -> None:
    for stage, differences in imported.differences.items():
        wrong = [difference for difference in differences if not difference.why]
        summary = "equal" if not differences else f"{len(differences)} differences, {len(wrong)} without a reason"
        print(f"{stage}: compiled again, {summary}", file=sys.stderr)
        for difference in differences:
            print(f"  {difference}", file=sys.stderr)
    if not imported.differences:
        print("nothing to compile, so nothing to compare", file=sys.stderr)
