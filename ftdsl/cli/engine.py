"""`ftc engine install|list|doctor`: each engine has an environment of its own; ftc itself has few dependencies."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("engine", help="install and examine engines", description=__doc__)
    inner = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    install = inner.add_parser("install", help="build or complete an engine's environment")
    install.add_argument("name", help="llamafactory, …")
    install.add_argument("--cpu", action="store_true", help="torch without CUDA")
    install.add_argument("--deepspeed", action="store_true", help="DeepSpeed too (ZeRO)")
    install.add_argument("--python", type=Path, metavar="P", help="complete this Python's environment instead")
    install.add_argument("--folder", type=Path, metavar="DIR", help="where to (default: .engines/NAME)")
    install.add_argument("--user", action="store_true", help="for all projects of this user")
    install.set_defaults(run=run_install)
    listing = inner.add_parser("list", help="list the installed engines")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=run_list)
    doctor = inner.add_parser("doctor", help="report what is wrong with an engine")
    doctor.add_argument("name", nargs="?", default="", help="default: the default engine")
    doctor.add_argument("--engine-python", default="", metavar="P", help="examine this Python")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=run_doctor)


def run_install(args: argparse.Namespace) -> int:
    """Exit 0 if the environment is ready, 1 if the installation fails."""
    from ftdsl.environments import folder_of, user_folder
    from ftdsl.run.environments import probe
    from ftdsl.run.install import InstallError, Wish, install

    if not _known(args.name):
        return 2
    folder = args.folder or (user_folder(args.name, os.environ) if args.user else folder_of(args.name))
    try:
        python = install(
            Wish(folder, args.python, args.cpu, args.deepspeed), lambda text: print(text, file=sys.stderr, flush=True)
        )
    except InstallError as error:
        print(f"error: {args.name} could not be installed:\n{error}", file=sys.stderr)
        return 1
    environment = probe(python, "")
    if environment is None or not environment.has(args.name):
        print(f"error: {python} still has no {args.name}", file=sys.stderr)
        return 1
    print(environment.said(args.name))
    print("next: ftc engine doctor", file=sys.stderr)
    return 0


def _known(name: str) -> bool:
    """Whether there is an engine of that name; prints an error if not."""
    from ftdsl.diagnostics.suggest import closest
    from ftdsl.engines import registry

    if registry.get(name) is not None:
        return True
    guess = closest(name, registry.names())
    hint = f"did you mean `{guess}`?" if guess else f"engines: {', '.join(registry.names())}"
    print(f"error: there is no engine `{name}`; {hint}", file=sys.stderr)
    return False


def run_list(args: argparse.Namespace) -> int:
    """Exit 0; 1 when there is none."""
    import json

    from ftdsl.engines import registry
    from ftdsl.environments import candidates
    from ftdsl.run.environments import probe

    environments = []
    for name in registry.names():
        for python, source in candidates(name, os.environ):
            environment = probe(python, source)
            if environment and environment.has(name):
                environments.append(
                    {"engine": name, "python": str(python), "found": source, "packages": dict(environment.packages)}
                )
    if args.json:
        print(json.dumps(environments, indent=2))
    for entry in environments if not args.json else ():
        packages = entry["packages"]
        assert isinstance(packages, dict)
        print(
            f"{entry['engine']} {packages[str(entry['engine'])]}  torch {packages.get('torch', '-')}  {entry['python']}"
        )
    if not environments:
        print(f"no engine is installed; next: ftc engine install {registry.default().name} [--cpu]", file=sys.stderr)
    return int(not environments)


def run_doctor(args: argparse.Namespace) -> int:
    """Exit 0 if the engine can train, 1 if something that it needs is missing."""
    import json

    from ftdsl.engines import registry
    from ftdsl.run.doctor import examine
    from ftdsl.run.environments import NoEngineError, find

    args.name = args.name or registry.default().name
    if not _known(args.name):
        return 2
    try:
        environment = find(args.name, os.environ, flag=args.engine_python)
    except NoEngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    checks = examine(environment)
    if args.json:
        print(json.dumps([check.__dict__ for check in checks], indent=2))
        return int(any(check.needed and not check.fine for check in checks))
    print(environment.said(args.name))
    for check in checks:
        mark = "ok     " if check.fine else "MISSING" if check.needed else "absent "
        print(f"  {mark}  {check.name}: {check.detail}")
        if not check.fine and check.help:
            print(f"           {check.help}")
    return int(any(check.needed and not check.fine for check in checks))
