"""What files are by their endings: recipes, and what people give to a verb in place of one."""

from __future__ import annotations

from pathlib import Path

ENDING = ".ft"

OTHERS = {
    "a YAML file": (".yaml", ".yml"),
    "a JSON file": (".json",),
    "a shell script": (".sh", ".bash", ".zsh", ".slurm", ".sbatch", ".sub", ".job", ".pbs"),
    "a Python script": (".py",),
    "a notebook": (".ipynb",),
    "a Windows batch file": (".bat", ".cmd"),
    "a PowerShell script": (".ps1",),
    "a file of rows": (".jsonl", ".csv", ".parquet"),
}
"""Description -> endings that no recipe has."""

IMPORTED = ("a YAML file", "a JSON file", "a shell script")
"""Those that `ftc import` makes a recipe of."""


def kind_of_other(path: Path) -> str:
    """What a file is by an ending that no recipe has; "" for any other ending."""
    return next((kind for kind, endings in OTHERS.items() if path.suffix.lower() in endings), "")
