"""Every strategy under every launcher that can start it, on one node, on two, and on one to three: recipes to compile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ftdsl.engines.shared.parallel.check import STARTS
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.session import Session
from ftdsl.targets.write import write
from tests.conftest import ROWS, small

NODES = {"one": "1", "two": "2", "elastic": "1 .. 3"}


@dataclass(frozen=True)
class Layout:
    """One way to train: `strategy` (with `tensor` for AutoTP), who starts it, on which nodes, on cards or on a CPU."""

    strategy: str
    launcher: str
    nodes: str = "one"
    gpu: str = "a100(80GB)"
    more: str = ""

    def __str__(self) -> str:
        return "-".join((self.strategy, self.launcher, self.nodes, self.gpu[:4].rstrip("("), *self.more.split()[:1]))

    def text(self) -> str:
        """The recipe. Hubs are asked nothing: the model is named only."""
        count = 8 if self.gpu != "none" else 2
        hardware = f"hardware {{ gpu = {self.gpu}, count = {count}, nodes = {NODES[self.nodes]} }}"
        method = "full {}" if self.strategy in ("megatron", "autotp") else "lora { rank = 8 }"
        parallel = {
            "ddp": "parallel { strategy = ddp }",
            "autotp": "parallel { strategy = zero1, tensor = 2 }",
            "megatron": "parallel { strategy = megatron, tensor = 2, pipeline = 2 }",
        }.get(self.strategy, f"parallel {{ strategy = {self.strategy} }}")
        stage = f"{method}\n  {parallel}\n  launch {{ with = {self.launcher} }}\n  {self.more}"
        return small(stage).replace("hardware { gpu = none, count = 1 }", hardware)


def layouts() -> Iterator[Layout]:
    """All that can be started."""
    for launcher, strategies in STARTS.items():
        for strategy in (*filter(None, strategies), *(("autotp",) if launcher != "ray" else ())):
            yield Layout(strategy, launcher)
            yield Layout(strategy, launcher, "two")
            if launcher != "ray" and strategy not in ("fsdp1", "fsdp2", "megatron"):
                yield Layout(strategy, launcher, gpu="none")
    yield Layout("ddp", "torchrun", "elastic", more="launch.retries = 3")
    yield Layout("ddp", "torchrun", "two", more="launch.retries = 3")
    yield Layout("ddp", "torchrun", more="launch.retries = 3")
    yield Layout("zero3", "torchrun", more='parallel.offload = [optimizer(nvme = "/nvme"), params]')
    yield Layout("zero2", "deepspeed", more="hardware.devices = [2, 3, 4, 5, 6, 7, 8, 9] ")
    yield Layout("zero2", "deepspeed", "two", more="hardware.devices = [0, 1, 2, 3, 4, 5, 6, 7] ")
    yield Layout("fsdp2", "accelerate", more="parallel.replicate = 2\n  parallel.offload = [optimizer, params]")
    yield Layout("fsdp1", "accelerate", "two", more="parallel.replicate = 2")
    yield Layout("ddp", "torchrun", gpu="ascend910b(64GB)")
    yield Layout("ddp", "accelerate", gpu="ascend910b(64GB)")


def compiled(layout: Layout, folder: Path) -> Path:
    """The build folder of a layout. Raises: AssertionError when it does not compile."""
    folder.mkdir(parents=True)
    for name, content in {"r.ft": layout.text(), **ROWS}.items():
        (folder / name).write_text(content, encoding="utf-8")
    session = Session()
    made = compile_recipe(folder / "r.ft", Options(), session)
    assert made is not None, (str(layout), [(one.code, one.message) for one in session.sink])
    write(folder / "build", made.files, folder, session)
    return folder / "build"
