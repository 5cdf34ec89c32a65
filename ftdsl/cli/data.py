"""`ftc data show FILE STAGE`: rows as the model sees them: text after the template, token ids, what is learned from, what is cut.

The engine itself tokenises, in its own environment. What is learned from is in colour on a terminal, else between ⟦ and ⟧."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments, color, options_of, print_json, recipe_path, rendered, retyped, show

if TYPE_CHECKING:
    from ftdsl.engines.jobs import Job
    from ftdsl.run.faults import Fault
    from ftdsl.targets.compiled import Compiled


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("data", help="show rows as the model sees them", description=__doc__)
    inner = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    shown = inner.add_parser("show", help="the first rows of a stage, tokenised", description=__doc__)
    shown.add_argument("file", metavar="FILE", help="a recipe")
    shown.add_argument("stage", metavar="STAGE", nargs="?", default="", help="default: the first that reads rows")
    add_recipe_arguments(shown)
    shown.add_argument("--rows", type=_count, default=5, metavar="N", help="how many (5)")
    shown.add_argument("--tokens", action="store_true", help="one token a line")
    shown.add_argument("--json", action="store_true", help="one JSON document on stdout, with all ids and labels")
    shown.add_argument("--engine-python", default="", metavar="P", help="the engine's Python, as for ftc run")
    shown.set_defaults(run=run)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError("1 to 1000 rows can be shown")
    return number


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 when the recipe has errors, or the rows cannot be read; 2 when there is no such stage."""
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.environments import NoEngineError
    from ftdsl.session import Session

    session, path = Session(engine_python=args.engine_python), recipe_path(args.file)
    compiled = compile_recipe(path, options_of(args), session, study=True)
    if compiled is None:
        show(session.sink)
        if not session.sink.failed:
            print(f"{args.file}: nothing to show: no stages in it", file=sys.stderr)
        return 1 if session.sink.failed else 2
    job = _job(compiled, args.stage)
    if job is None:
        return 2
    try:
        return _show(job, compiled, path, args, session)
    except NoEngineError as error:
        from ftdsl.run.faults import Fault

        text, _, help = str(error).partition("; type: ")
        return _refuse(job, compiled, Fault(text, ("engine",), f"type: {help}", "FT900"))


def _job(compiled: Compiled, name: str) -> Job | None:
    """The job to show; prints why there is none."""
    from ftdsl.catalog.vocabulary import TRAINING
    from ftdsl.run.shown import readers

    jobs = readers(compiled)
    job = next((job for job in jobs if not name or name == job.key or name == job.key.partition("@")[0]), None)
    if job is not None:
        return job
    names = ", ".join(job.key for job in jobs)
    if any(stage.stage.name == name for stage in compiled.plan.stages):
        planned = next(stage for stage in compiled.plan.stages if stage.stage.name == name)
        kind = planned.stage.kind
        if kind in TRAINING:
            text = f"rows of `{name}` cannot be shown yet: {planned.engine.title} has no program for it"
            print(f"error: {text}", file=sys.stderr)
            return None
        users = [job.key for job in jobs if any(need == name for need in job.needs)]
        text = f"`{name}` is a `{kind}` stage: rows are tokenised by the stages that read them"
        print(f"error: {text}: {', '.join(users) or names or 'there is none'}", file=sys.stderr)
    else:
        text = f"the recipe has no stage `{name}`" if name else "no stage of the recipe reads rows"
        print(f"error: {text}" + (f"; stages that read rows: {names}" if names else ""), file=sys.stderr)
    return None


def _show(job: Job, compiled: Compiled, path: Path, args: argparse.Namespace, session: object) -> int:
    from ftdsl.observe.rows import lines
    from ftdsl.printable import typed
    from ftdsl.run import shown
    from ftdsl.run.carry_out import environments_of
    from ftdsl.run.faults import Fault
    from ftdsl.run.project import home_of
    from ftdsl.run.status import stage_statuses
    from ftdsl.session import Session

    assert isinstance(session, Session)
    home = home_of(path, compiled.name, options_of(args))
    base = home_of(path, compiled.name)
    statuses = stage_statuses(compiled.plan, compiled.jobs, home, session, base)
    if absent := shown.missing(job, compiled, statuses):
        names = ", ".join(f"`{need.key}`" for need in absent)
        states = {statuses[need.key].state for need in absent}
        why = "have changed since they ran" if states == {"changed"} else "have not run yet"
        only = " ".join(f"--only {typed(need.key)}" for need in absent)
        text, help = f"its rows are made by {names}, which {why}", f"type: ftc run {retyped(args.file, args)} {only}"
        fault = Fault(text, ("data", "model"), help, "FT976")
        return _refuse(job, compiled, fault)
    environments = environments_of((job,), compiled, session.env, python=args.engine_python)
    result = shown.show(job, compiled, environments[job.environment], statuses, session, args.rows)
    if result.fault is not None:
        return _refuse(job, compiled, result.fault)
    if args.json:
        print_json({"recipe": args.file, "stage": job.key, **result.data})
        return 0
    for line in lines(result.data, color=color(sys.stdout), ids=args.tokens):
        print(line)
    _hint(job, args, result.data)
    return 0


def _hint(job: Job, args: argparse.Namespace, data: object) -> None:
    from ftdsl.printable import typed

    assert isinstance(data, dict)
    if not data["rows"]:
        print("no row is left: a pack that `max_len` does not fill is left out", file=sys.stderr)
    cut = sum(side["whole"] > len(side["ids"]) for row in data["rows"] for side in row["sides"])
    if cut:
        print(f"cut at {data['limit']} tokens: {cut} of these; next: ftc explain {retyped(args.file, args)} {job.key}.max_len",
              file=sys.stderr)  # fmt: skip
    else:
        print(f"next: ftc run {retyped(args.file, args)} --only {typed(job.key)}", file=sys.stderr)


def _refuse(job: Job, compiled: Compiled, fault: Fault) -> int:
    """Print what is wrong, at its place in the recipe."""
    from ftdsl.run.faults import diagnostic

    print(rendered([diagnostic(fault, job.key, compiled.plan)], sys.stderr), file=sys.stderr)
    return 1
