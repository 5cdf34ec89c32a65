"""`ftc models add NAME`: queries the hub for the size of a model and keeps it in the project; `ftc models show NAME`: shows
the known size."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "sizes of models that the catalogue does not have"
TIMEOUT = 30


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("models", help=HELP, description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="get a config.json from the hub, and keep it")
    add.add_argument("names", nargs="+", metavar="NAME", help="an id of the hub: org/name, or org/name@revision")
    show = actions.add_parser("show", help="show sizes and their source")
    show.add_argument("names", nargs="+", metavar="NAME")
    for verb in (add, show):
        verb.add_argument(
            "--project", type=Path, default=Path(), metavar="FOLDER", help="the recipe's folder (default: here)"
        )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when all names are known, 1 when one is not."""
    act = _add if args.action == "add" else _show
    return max(act(name, args.project) for name in args.names)


def _show(name: str, project: Path) -> int:
    from ftdsl.estimate.architecture import NotModelledError
    from ftdsl.plan.model_sizes import hub_folder, sizes_of
    from ftdsl.session import Session

    session = Session()
    try:
        sizes = sizes_of(name, project, session.files, hub_folder(session.env))
    except NotModelledError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{name}: {described(sizes)}")
    return 0


def described(sizes: object) -> str:
    """Sizes as a line, with the uncertainty of guesses."""
    from ftdsl.estimate.architecture import Architecture

    assert isinstance(sizes, Architecture)
    parts = [
        f"{sizes.params / 1e9:.2f} billion parameters",
        f"{sizes.layers} layers of {sizes.hidden}",
        f"vocabulary {sizes.vocab}",
    ]
    if sizes.experts:
        parts.append(f"{sizes.experts} experts, {sizes.experts_used} at a time")
    if sizes.tower:
        parts.append(f"{sizes.tower / 1e9:.2f} billion outside the language model")
    if sizes.uncertainty:
        parts.append(f"guessed from the name, memory may be off by {sizes.uncertainty:.0%}")
    return ", ".join(parts)


def _add(name: str, project: Path) -> int:
    import json

    from ftdsl.estimate.architecture import NotModelledError
    from ftdsl.plan.model_sizes import PROJECT_FILE, project_models, read_config
    from ftdsl.session import Files, Session
    from ftdsl.storage import write_file

    name, _, revision = name.partition("@")
    try:
        config, commit = fetch(name, revision or "main", Session().env)
        sizes = read_config(config, name)
    except (OSError, ValueError, NotModelledError) as problem:
        print(f"{name}: {problem}", file=sys.stderr)
        return 1
    models = project_models(project, Files()) | {name: {"revision": commit, "config": config}}
    text = json.dumps(dict(sorted(models.items())), indent=2, ensure_ascii=False) + "\n"
    write_file(project / PROJECT_FILE, text.encode())
    print(f"{name}: {described(sizes)}; kept in {project / PROJECT_FILE}")
    return 0


def fetch(name: str, revision: str, env: object) -> tuple[dict[str, object], str]:
    """(config.json, commit) from the hub. Raises: OSError (including urllib's), ValueError."""
    import json
    from collections.abc import Mapping
    from urllib.parse import quote
    from urllib.request import Request, urlopen

    assert isinstance(env, Mapping)
    base = str(env.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    request = Request(f"{base}/{quote(name)}/resolve/{quote(revision, safe='')}/config.json")
    if token := env.get("HF_TOKEN"):
        # not forwarded to another host, such as the storage of large files
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    with urlopen(request, timeout=TIMEOUT) as answer:
        config = json.loads(answer.read())
        commit = answer.headers.get("X-Repo-Commit") or revision
    if not isinstance(config, dict):
        raise ValueError("its config.json is not an object")
    return config, commit
