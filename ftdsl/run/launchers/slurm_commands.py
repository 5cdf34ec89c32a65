"""Slurm's commands as functions: submit, look, cancel. Text formats that all versions share, no JSON; a controller that does not
answer is no error of a job.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ftdsl.record import frozen
from ftdsl.run.launchers.launcher import LaunchError, NotAnsweredError
from ftdsl.session import open_regular

PATIENCE = 20.0
"""Seconds after which a command of Slurm's counts as not answered."""
GLANCE = 8.0
"""The same for a look at the queue, which is repeated."""

_TARGET = ("target",)
_REFUSALS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("invalid partition", "Slurm has no such partition{partition}", _TARGET, "partitions: {partitions}"),
    ("time limit", "the time limit{time} is over what the partition allows", (*_TARGET, "budget.time"),
     "{limits}"),
    ("account", "Slurm refuses the account{account}", _TARGET, "sacctmgr show associations lists yours"),
    ("qos", "Slurm refuses the quality of service{qos}", _TARGET, "sacctmgr show qos lists them"),
    ("invalid feature", "no node has the constraint{constraint}", _TARGET, "sinfo -o '%N %f' lists features"),
    ("generic resource", "no node has such GPUs", ("hardware.gpu", "hardware", *_TARGET), "{nodes}"),
    ("node configuration", "no node of the partition has what is asked for: {asked}",
     ("hardware.count", "hardware.gpu", "hardware.nodes", "hardware", *_TARGET), "{nodes}"),
    ("node count", "the partition has fewer nodes than are asked for: {asked}", ("hardware.nodes", "hardware", *_TARGET),
     "{nodes}"),
    ("more processors", "more cores are asked for than the partition has: {asked}", ("hardware.cpus", "hardware", *_TARGET),
     "{nodes}"),
    ("memory", "more memory is asked for than a node has: {asked}", ("hardware.memory", "hardware", *_TARGET), "{nodes}"),
    ("reservation", "Slurm refuses the reservation{reservation}", _TARGET, "scontrol show reservation lists them"),
)  # fmt: skip
"""What sbatch says, and what that means: a part of its text, a sentence, the keys it is about, help."""


_SILENT = ("Unable to contact", "configuration source", "timed out", "Connection refused")
"""What sbatch says when no controller answers."""

_SHOWN = ("partition", "nodes", "gpus-per-node", "gres", "cpus-per-task", "mem")
"""Flags that are shown where the nodes do not have what is asked for."""


@frozen
class QueuedJob:
    """A job as Slurm sees it. state: `PENDING`, `RUNNING`, …; reason: why it waits; nodes: where it runs."""

    id: str
    state: str
    reason: str = ""
    nodes: str = ""


def submit(script: str, folder: Path, options: Sequence[str], env: Mapping[str, str]) -> str:
    """The id of a new job. Raises: LaunchError with Slurm's reason, at the keys it is about."""
    try:
        done = _run(["sbatch", "--parsable", *options, script], env, folder)
    except FileNotFoundError:
        raise LaunchError(
            "there is no `sbatch` here", keys=_TARGET, help="submit from a login node of the cluster"
        ) from None
    except (OSError, subprocess.SubprocessError):
        raise NotAnsweredError("Slurm does not answer", keys=_TARGET, help="ftc run again goes on from here") from None
    if done.returncode:
        raise refusal(done.stderr, folder / script, env)
    return done.stdout.strip().partition(";")[0]


def try_out(script: str, folder: Path, env: Mapping[str, str]) -> str:
    """When a job would start, as Slurm says it; nothing is submitted. Raises: LaunchError as `submit` does."""
    try:
        done = _run(["sbatch", "--test-only", script], env, folder)
    except (OSError, subprocess.SubprocessError):
        raise NotAnsweredError("Slurm does not answer", keys=_TARGET) from None
    if done.returncode:
        raise refusal(done.stderr, folder / script, env)
    match = re.search(r"to start at (\S+)", done.stderr)
    return match[1] if match else ""


def queue(ids: Iterable[str], env: Mapping[str, str]) -> dict[str, QueuedJob] | None:
    """Jobs by id (`17`, `17_3` in an array), as far as Slurm remembers them; None when it does not answer."""
    bases = sorted({id.partition("_")[0] for id in ids})
    try:
        done = _run(
            ["squeue", "-h", "-r", "-t", "all", "-j", ",".join(bases), "-o", "%i|%T|%r|%N"], env, patience=GLANCE
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return {row[0]: QueuedJob(*row) for row in rows if len(row) == 4}


def accounted(ids: Iterable[str], env: Mapping[str, str]) -> dict[str, QueuedJob]:
    """Jobs that have left the queue, from the accounting; none where there is none."""
    try:
        done = _run(
            ["sacct", "-n", "-P", "-X", "-j", ",".join(sorted(ids)), "-o", "JobID,State,NodeList"], env, patience=GLANCE
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [line.split("|") for line in done.stdout.splitlines()] if not done.returncode else []
    return {
        row[0]: QueuedJob(row[0], row[1].split()[0], "", row[2]) for row in rows if len(row) == 3 and row[1].split()
    }


def cancel(ids: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether Slurm took the request."""
    try:
        return _run(["scancel", *ids], env).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def partitions(env: Mapping[str, str]) -> list[tuple[str, str, str, str, str]]:
    """Name (the default one with `*`), time limit, nodes, cores of a node, GPUs of a node. Raises: LaunchError."""
    try:
        done = _run(["sinfo", "-h", "-o", "%P|%l|%D|%c|%G"], env)
    except (OSError, subprocess.SubprocessError):
        raise NotAnsweredError("Slurm does not answer", keys=_TARGET) from None
    if done.returncode:
        raise NotAnsweredError(f"Slurm does not answer (sinfo: {_last_line(done.stderr)})", keys=_TARGET)
    rows = [tuple(line.split("|")) for line in done.stdout.splitlines()]
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows if len(row) == 5]


def keeps_accounts(env: Mapping[str, str]) -> bool:
    """Whether the accounting answers."""
    try:
        return _run(["sacct", "-n", "-X", "-S", "now"], env, patience=GLANCE).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def refusal(text: str, script: Path, env: Mapping[str, str]) -> LaunchError:
    """What sbatch refused, in words of the recipe."""
    try:
        text_of_script = small(script).decode("utf-8", "replace")
    except OSError:
        text_of_script = ""
    asked = dict(re.findall(r"^#SBATCH '?--([\w-]+)=([^'\n]*)'?$", text_of_script, re.MULTILINE))
    reason = _last_line(text)
    if any(part in reason for part in _SILENT):
        return NotAnsweredError(f"Slurm does not answer (sbatch: {reason})", keys=_TARGET)
    for part, sentence, keys, help in _REFUSALS:
        if part in reason.lower():
            facts = _facts(asked, env) if "{" in help else {}
            named = {name: f" `{asked[name]}`" if name in asked else "" for name in
                     ("partition", "account", "qos", "constraint", "reservation")}  # fmt: skip
            named["time"] = f" of {asked['time']} min" if "time" in asked else ""
            wanted = ", ".join(f"{name} {asked[name]}" for name in _SHOWN if name in asked)
            return LaunchError(
                f"{sentence.format(asked=wanted, **named)} (sbatch: {reason})", keys=keys, help=help.format(**facts)
            )
    return LaunchError(f"sbatch: {reason}", keys=_TARGET)


def small(path: Path) -> bytes:
    """A file of a few kilobytes. Raises: OSError."""
    with open_regular(path) as handle:
        return handle.read(1 << 20)


def _facts(asked: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """What the cluster has, for the help of a refusal."""
    try:
        known = partitions(env)
    except LaunchError:
        known = []
    own = asked.get("partition", "")
    mine = [row for row in known if row[0].rstrip("*") == own or (not own and row[0].endswith("*"))] or known
    return {
        "partitions": ", ".join(dict.fromkeys(row[0].rstrip("*") for row in known)),
        "limits": "; ".join(dict.fromkeys(f"partition {row[0].rstrip('*')} allows {row[1]}" for row in mine)),
        "nodes": "; ".join(
            f"partition {name.rstrip('*')}: {count} node{'s' * (count != '1')} of {cpus} cores and "
            + (f"GPUs {gpus}" if gpus != "(null)" else "no GPU")
            for name, _, count, cpus, gpus in mine
        ),
    }


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Try ")]
    line = lines[-1] if lines else "no reason was given"
    return re.sub(r"^(sbatch|sinfo|squeue|allocation)( error|: error)?: ", "", line).removeprefix(
        "Batch job submission failed: "
    ).removeprefix("allocation failure: ")  # fmt: skip


def _run(
    command: list[str], env: Mapping[str, str], folder: Path | None = None, *, patience: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=dict(env), capture_output=True, encoding="utf-8", errors="replace", timeout=patience,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
