"""`stage.json`: what our runtime is asked to do around the engine for one stage. Standard library only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Part:
    """One call of the engine. config: its YAML; until: save and stop at this step, as if interrupted; resumed: the step that it
    must go on from. 0 for neither.
    """

    config: str
    until: int = 0
    resumed: int = 0


@dataclass(frozen=True)
class Stage:
    """A stage folder and what is expected of it.

    stage: the folder, where metrics.jsonl and result.json go. kind: train, eval, export or tokens. parts: calls of the
    engine, in order. world: processes planned; at_least: the fewest of an elastic job (0: as many as planned).
    output: where a model is written. result: what must be there at the end: adapter, model, or shards that another command
    makes a model of. guard, watch: what goes wrong in a training, and what follows (guard.py, Policy). ramp: phases of the batch
    (ramp.py, Phase). extend: a spec of extend.py. private, revision: of an upload's repository. card: of a model
    that is shipped (shipping.py). smoke: what looks wrong ends
    it, results are marked.
    """

    stage: str
    kind: str
    parts: tuple[Part, ...]
    world: int = 1
    at_least: int = 0
    output: str = ""
    result: str = "adapter"
    guard: dict[str, Any] = field(default_factory=dict)
    watch: dict[str, Any] = field(default_factory=dict)
    ramp: tuple[dict[str, int], ...] = ()
    extend: str = ""
    private: bool = False
    revision: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    smoke: bool = False


def read(path: str) -> Stage:
    """The spec in a file. Raises: OSError, ValueError, TypeError for a key there is not."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    parts, ramp = tuple(Part(**part) for part in content["parts"]), tuple(content.get("ramp", ()))
    return Stage(**{**content, "parts": parts, "ramp": ramp})
