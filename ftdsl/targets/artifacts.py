"""Jobs to files, for every target: a folder per job with its documents and `launch.sh`; the target adds what starts them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from ftdsl.engines.jobs import Command, Document, Job, is_variable
from ftdsl.plan.plan import Plan
from ftdsl.session import Session
from ftdsl.targets.manifest import manifest
from ftdsl.targets.render import render, shell_word
from ftdsl.targets.target import Target

RUNTIME = Path(__file__).parent.parent / "runtime"
WIDTH = 110


def compile_files(plan: Plan, jobs: tuple[Job, ...], session: Session, target: Target) -> dict[str, bytes]:
    """Every artifact by its path in the build folder, the manifest last; the same bytes for the same recipe."""
    texts: dict[str, str] = {}
    for job in jobs:
        for document in job.documents:
            texts[document.path] = document_text(document)
        texts[f"{job.folder}/launch.sh"] = launch_text(job)
    texts |= target.scripts(plan, jobs)
    files = {path: texts[path].encode() for path in texts} | runtime_files(jobs)
    files = {path: files[path] for path in sorted(files)}
    files["manifest.json"] = manifest(plan, jobs, files, session)
    return files


def runtime_files(jobs: tuple[Job, ...]) -> dict[str, bytes]:
    """Copies of the runtime modules that the jobs use, and of what records a run without `ftc`."""
    modules = sorted({"by_hand", *(module for job in jobs for module in job.runtime)})
    return {path: text.encode() for module in modules for path, text in runtime_module(module).items()}


def runtime_module(module: str) -> dict[str, str]:
    """A runtime module: a file, or a package with all its files (run as `-m runtime.NAME`)."""
    folder = RUNTIME / module
    if not folder.is_dir():
        return {f"runtime/{module}.py": (RUNTIME / f"{module}.py").read_text(encoding="utf-8")}
    paths = [RUNTIME / "__init__.py", *(path for path in folder.iterdir() if path.suffix in (".py", ".j2"))]
    return {f"runtime/{path.relative_to(RUNTIME).as_posix()}": path.read_text(encoding="utf-8") for path in paths}


def document_text(document: Document) -> str:
    """A document in its format."""
    if document.kind == "json":
        return render("document.json.j2", data=document.data)
    if document.kind == "text":
        return "".join(f"{line}\n" for line in document.data)
    keys = list(document.data)
    starts = [at for at, key in enumerate(keys) if at == 0 or key in document.titles]
    groups = [
        {"title": document.titles.get(keys[start], ""), "data": {key: document.data[key] for key in keys[start:end]}}
        for start, end in pairwise([*starts, len(keys)])
    ]
    return render("document.yaml.j2", header=document.header, groups=groups)


def launch_text(job: Job) -> str:
    """The script of one job."""
    title = f"{job.folder}: {job.title}" + (f" ({job.location})" if job.location else "")
    commands = [{"text": _command(c), "comment": [c.comment] if c.comment else []} for c in job.commands]
    if once := _once(job):
        comment = "what follows is done once, on the first node"
        commands.insert(once, {"text": 'if [ "$NODE_RANK" -ne 0 ]; then exit 0; fi', "comment": [comment]})
    if wrong := [name for name in job.env if not is_variable(name)]:
        raise ValueError(f"{wrong[0]!r} is not a valid variable name")  # an earlier phase reports it at its span
    env = [{"name": name, "value": value} for name, value in job.env.items()]
    return render("bash/launch.sh.j2", title=title, header=(*job.header, *_started(job)), env=env, commands=commands)


def _once(job: Job) -> int:
    """Where the commands begin that only the first of several nodes runs: after the last of all nodes; 0 if there are none."""
    together = [at for at, command in enumerate(job.commands, 1) if command.each_node]
    return together[-1] if job.nodes > 1 and together and together[-1] < len(job.commands) else 0


def build_of(job: Job) -> str:
    """A fingerprint of what a job runs; comments and places in the recipe do not count, as in run.sh."""
    texts = [launch_text(job), *(document_text(document) for document in job.documents)]
    lines = [line for text in texts for line in text.splitlines() if not line.startswith("#")]
    return sha256(re.sub(r'"where": "[^"]*",*', "", "\n".join(lines)).encode()).hexdigest()[:16]


def _started(job: Job) -> Iterator[str]:
    """How to start the script by hand on several nodes."""
    if job.nodes > 1:
        yield f"Started on each of {job.nodes} nodes:"
        yield from (f"  {line}" for line in job.by_hand)


def _command(command: Command) -> str:
    """A command as text: arguments quoted, lines broken at flags where they would be too long."""
    if not command.argv:
        return command.shell
    lines = [""]
    for argument in map(shell_word, command.argv):
        fits = len(lines[-1]) + len(argument) < WIDTH
        if lines[-1] and not fits and argument.startswith("-"):
            lines.append("")
        lines[-1] += f" {argument}" if lines[-1] else argument
    return " \\\n  ".join(lines)
