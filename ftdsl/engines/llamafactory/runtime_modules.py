"""The runtime around the engine: its program, and the modules that it consists of."""

from __future__ import annotations

PROGRAM = "runtime/llamafactory.py"
TRAIN = (PROGRAM, "train")
"""ftdsl's program that calls the engine, and its verb for training and scoring."""

MODULES = (
    "__init__", "actions", "anomalies", "chat", "checkpoints", "events", "extend", "failures", "guard", "guarded", "inject",
    "judges", "labels", "llamafactory", "measure", "proof", "ramp", "replace_trainers", "report", "row_parts", "shipping", "show",
    "stage", "stale_locks", "tokens", "trainer", "training", "watch", "watchdog",
)  # fmt: skip
"""`runtime/llamafactory.py` and what it imports."""
