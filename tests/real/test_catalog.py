"""The catalogue's facts are those of the packages that are installed."""

from __future__ import annotations

import json
import subprocess

import pytest

from ftdsl import catalog
from ftdsl.catalog.extract.__main__ import differences, known_versions
from ftdsl.catalog.extract.packages import Installed
from ftdsl.run.environments import Environment

pytestmark = pytest.mark.real


@pytest.mark.parametrize("package", list(known_versions()))
def test_the_facts_are_those_of_the_installed_package(package: str, engine: Environment) -> None:
    site = next(engine.python.parent.parent.glob("lib/python*/site-packages"))
    assert differences(Installed(package, site)) == []


MODULES = """
import json, sys, torch, transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D
transformers.logging.set_verbosity_error()
found = {}
for name in sys.argv[1:]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name))
    linear = {path.rsplit(".", 1)[-1] for path, part in model.named_modules() if isinstance(part, (torch.nn.Linear, Conv1D))}
    experts = {path.rsplit(".", 1)[-1] for path, tensor in model.named_parameters() if tensor.dim() == 3}
    found[name] = [sorted(linear), sorted(experts)]
print("\\n" + json.dumps(found))
"""

SAME = (
    "llama",
    "qwen2",
    "qwen3",
    "gemma2",
    "phi3",
    "mixtral",
    "gpt_oss",
    "glm4",
    "mistral",
    "falcon",
    "gpt_neox",
    "bloom",
)
MORE = {"gpt2": {"q_attn"}, "qwen3_moe": {"down_proj", "gate_proj", "up_proj"}, "deepseek_v3": {"q_proj"}}
"""Names that another configuration of that type would have: cross-attention, dense layers, no low rank for queries."""


def test_modules_are_those_of_the_built_models(forking: Environment) -> None:
    """Models of the default configurations, without weights."""
    command = [str(forking.python), "-c", MODULES, *SAME, *MORE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name, (linear, experts) in json.loads(done.stdout.splitlines()[-1]).items():
        known = catalog.modules(name, forking.packages["transformers"])
        assert known is not None
        assert {*known.linear, *known.head} - MORE.get(name, set()) == set(linear) - MORE.get(name, set()), name
        assert set(known.experts) == set(experts), name
