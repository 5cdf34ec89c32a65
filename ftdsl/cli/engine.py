"""`ftc engine install|list|doctor|trust`: engines and tools are environments of their own; ftc itself stays light."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftdsl.run.doctor import Check


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("engine", help="install and examine engines", description=__doc__)
    inner = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    install = inner.add_parser("install", help="build or complete an engine's environment")
    install.add_argument("name", help="llamafactory, trl, lm-eval, mergekit, llmcompressor, …")
    install.add_argument("--cpu", action="store_true", help="torch without CUDA")
    install.add_argument("--deepspeed", action="store_true", help="DeepSpeed too (ZeRO)")
    install.add_argument("--python", type=Path, metavar="P", help="complete this Python's environment instead")
    install.add_argument("--folder", type=Path, metavar="DIR", help="where to (default: .engines/NAME)")
    install.add_argument("--user", action="store_true", help="for all projects of this user")
    install.set_defaults(run=run_install)
    install.add_argument("--trust", action="store_true", help="complete one that is there, whoever made it")
    trusting = inner.add_parser("trust", help="let ftc start a Python that is in this project")
    trusting.add_argument("path", nargs="?", type=Path, metavar="PATH", help="a Python, or its environment's folder")
    trusting.set_defaults(run=run_trust)
    listing = inner.add_parser("list", help="say which engines are here")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=run_list)
    doctor = inner.add_parser("doctor", help="report what is wrong with an engine")
    doctor.add_argument("name", nargs="?", default="", help="default: the default engine")
    doctor.add_argument("--engine-python", default="", metavar="P", help="examine this Python")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=run_doctor)


def run_install(args: argparse.Namespace) -> int:
    """Exit 0 with the environment ready, 1 when it cannot be made."""
    from ftdsl.engines import registry
    from ftdsl.engines.tools.tool import TOOLS
    from ftdsl.environments import folder_of, python_in, user_folder
    from ftdsl.run.environments import not_started, probe
    from ftdsl.run.install import InstallError, Wish, install
    from ftdsl.run.trust import trust

    if not _known(args.name):
        return 2
    installed = TOOLS.get(args.name) or registry.get(args.name)
    assert installed is not None, "it is known"
    folder = args.folder or (user_folder(args.name, os.environ) if args.user else folder_of(args.name))
    installed_already = args.python is None and python_in(folder).exists() and not args.trust
    if installed_already and (why := not_started(python_in(folder), str(folder), os.environ)):
        print(f"error: {folder} is there already, and its Python is not started: {why}", file=sys.stderr)
        print("  = help: add --trust to complete it, or --folder DIR to put one elsewhere", file=sys.stderr)
        return 1
    try:
        python = install(
            Wish(folder, args.python, args.cpu, args.deepspeed, installed.requirements, installed.title),
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    except InstallError as error:
        print(f"error: {args.name} could not be installed:\n{error}", file=sys.stderr)
        return 1
    environment = probe(python, "")
    if environment is None or not environment.has(args.name):
        print(f"error: {python} still has no {args.name}", file=sys.stderr)
        return 1
    print(environment.describe(args.name))
    try:
        trust(python, os.environ)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        print(
            f"note: that it may be started could not be kept ({why}); name it: --engine-python {python}",
            file=sys.stderr,
        )
    print(f"next: ftc engine doctor {args.name}", file=sys.stderr)
    return 0


def _known(name: str) -> bool:
    """Whether there is an engine or a tool of that name; prints an error if not."""
    from ftdsl.diagnostics.suggest import closest
    from ftdsl.engines import registry
    from ftdsl.engines.tools.tool import TOOLS

    if name in TOOLS or registry.get(name) is not None:
        return True
    guess = closest(name, [*registry.names(), *TOOLS])
    known = f"engines: {', '.join(registry.names())}; tools: {', '.join(TOOLS)}"
    print(f"error: there is no engine `{name}`; {f'did you mean `{guess}`?' if guess else known}", file=sys.stderr)
    return False


def run_trust(args: argparse.Namespace) -> int:
    """Exit 0 when it is kept that a Python may be started, 1 when it cannot be. Starts nothing."""
    from ftdsl.engines import registry
    from ftdsl.environments import folder_of
    from ftdsl.run.trust import python_of, trust

    path = args.path or folder_of(registry.default().name)
    try:
        record = trust(python_of(path), os.environ)
    except OSError as error:
        print(f"error: {error.filename or path}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    print(f"{python_of(path)} may be started from now on ({record})")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Exit 0; 1 when there is none."""
    import json

    from ftdsl import catalog
    from ftdsl.engines import registry
    from ftdsl.engines.tools.tool import TOOLS
    from ftdsl.environments import candidates, installed
    from ftdsl.run.environments import not_started, probe, trusting
    from ftdsl.session import Files

    environments: list[tuple[dict[str, object], str]] = []
    for name in (*registry.names(), *TOOLS):
        variable = TOOLS[name].variable if name in TOOLS else ""
        for python, source in candidates(name, os.environ, variable=variable):
            why = not_started(python, source, os.environ)
            environment = None if why else probe(python, source)
            packages = dict(installed(python, Files()) if why else environment.packages if environment else {})
            if catalog.serves(name, packages):
                row: dict[str, object] = {"engine": name, "python": str(python), "found": source, "packages": packages}
                environments.append(
                    (row | ({"not_started": why} if why else {}), f"{why}; type: {trusting(python)}" if why else "")
                )
    if args.json:
        print(json.dumps([row for row, _ in environments], indent=2))
    for row, note in environments if not args.json else ():
        held = row["packages"]
        assert isinstance(held, dict)
        print(f"{row['engine']} {held[str(row['engine'])]}  torch {held.get('torch', '-')}  {row['python']}")
        if note:
            print(f"  not started: {note}")
    if not environments:
        print(f"no engine here; type: ftc engine install {registry.default().name} [--cpu]", file=sys.stderr)
    return int(not environments)


def run_doctor(args: argparse.Namespace) -> int:
    """Exit 0 if the engine can train, 1 if something that it needs is missing."""
    from ftdsl.engines import registry
    from ftdsl.engines.tools.tool import TOOLS
    from ftdsl.run.doctor import examine, examine_tool
    from ftdsl.run.environments import NoEngineError, find

    args.name = args.name or registry.default().name
    if not _known(args.name):
        return 2
    try:
        environment = find(args.name, os.environ, flag=args.engine_python)
    except NoEngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    engine = registry.get(args.name)
    checks = examine(environment, engine) if engine else examine_tool(environment, TOOLS[args.name])
    if not args.json:
        print(environment.describe(args.name))
    return show_checks(checks, as_json=args.json)


def show_checks(checks: list[Check], *, as_json: bool) -> int:
    """Print one line a check. Exit 0 if nothing that is needed is missing, else 1."""
    import json

    if as_json:
        print(json.dumps([check.__dict__ for check in checks], indent=2))
        return int(any(check.needed and not check.fine for check in checks))
    for check in checks:
        mark = "ok     " if check.fine else "MISSING" if check.needed else "absent "
        print(f"  {mark}  {check.name}: {check.detail}")
        if not check.fine and check.help:
            print(f"           {check.help}")
    return int(any(check.needed and not check.fine for check in checks))
