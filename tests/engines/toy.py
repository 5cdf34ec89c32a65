"""An engine from outside, as small as one can be: it "trains" by counting words. This file is all that ftdsl needs of it.

docs/engines.md shows it to those who write an engine of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.engines.engine import Engine
from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared import overlay
from ftdsl.engines.shared.assemble import job_of, result_of, title_of
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.environments import Versions
from ftdsl.language.values import Amount, StageRef
from ftdsl.plan.engine import Layout
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen

OVERLAY = {
    "train": {
        "duration": {"to": ["passes"], "rule": "passes"},
        "max_len": {"to": ["longest"]},
        "seed": {"to": ["seed"]},
    },
    "full": {},
    "optim": {"lr": {"to": ["step"]}},
}
"""Keys of the language -> parameters of the engine (docs/engines.md has the columns)."""

PROGRAM = """\
import collections, json, os, pathlib, sys, time
spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
stage, result = pathlib.Path(spec["stage"]), pathlib.Path(spec["result"])
words = collections.Counter()
for name in spec["rows"]:
    for line in pathlib.Path(name).read_text().splitlines():
        words.update(json.loads(line)["output"].split()[: spec["longest"]])
with (stage / "metrics.jsonl").open("a") as events:
    for step in range(spec["passes"]):
        event = {"event": "step", "schema": 1, "time": time.time(), "step": step + 1, "total_steps": spec["passes"],
                 "loss": 1 / (step + 1)}
        events.write(json.dumps(event) + "\\n")
result.mkdir(parents=True, exist_ok=True)
(result / "model.safetensors").write_text(json.dumps(dict(words)))
(stage / "result.json").write_text(
    json.dumps({"kind": "model", "path": spec["result"], "metrics": {"words": len(words)}}))
"""


@frozen
class ToyAbilities:
    """What the plan asks."""

    name: str = "toy"
    title: str = "Toy"

    def defaults(self, stage: Stage) -> Mapping[str, Any]:
        steps = Amount(10, "steps")
        return {"max_len": 64, "save.every": steps, "evaluate.every": steps, "loader.workers": 0, "loader.tokenize": 1}

    def possible(self, stage: Stage, layout: Layout, world: World) -> bool:
        return world.size == 1 and layout.method == "full"

    def one_sequence(self, stage: Stage) -> bool:
        return False

    def generates(self, stage: Stage) -> bool:
        return False

    def setup(self, stage: Stage, layout: Layout) -> Mapping[str, Any]:
        return {}

    def template(self, base: Any, versions: Versions) -> tuple[str, str]:
        return "default", "it has no chat templates"


def train(context: StageContext) -> Job:
    """A stage to a document, the program, and the command that runs it."""
    overlay.refuse_unlowered(context, frozenset({"passes"}))
    duration = context.get("duration")
    rows = [context.paths.rows(item) for item in context.stage.settings.items("data") if isinstance(item, StageRef)]
    spec = overlay.params(context, "sft") | {
        "stage": context.folder, "rows": rows, "passes": int(duration.number), "result": result_of(context),
    }  # fmt: skip
    documents = [
        Document(f"{context.folder}/toy.json", "json", spec),
        Document(f"{context.folder}/toy.py", "text", PROGRAM.splitlines()),
    ]
    command = Command((PYTHON, f"{context.folder}/toy.py", documents[0].path))
    return job_of(context, documents, [command], [], "model", title_of(context, "words"), runtime=())


TOY = Engine(
    abilities=ToyAbilities(),
    lowerings={"sft": train},
    methods=("full",),
    lowered=frozenset({"model", "data"}),
    overlay=OVERLAY,
)
