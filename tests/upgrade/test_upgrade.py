"""Texts rewritten for other versions: what changes, what stays, what is left to a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftdsl import catalog
from ftdsl.source import Source
from ftdsl.upgrade.upgrade import Upgraded, upgrade
from tests.conftest import ftc

HEAD = "model_name_or_path: a/b\nstage: sft\n"
NOW = {"llamafactory": "0.9.5", "transformers": "5.24.0"}


def upgraded(text: str, to: dict[str, str] | None = None, name: str = "x.yaml", **before: str) -> Upgraded:
    found = upgrade(Source(name, text), to or NOW, before)
    again = upgrade(Source(name, found.text), to or NOW, before)
    assert again.text == found.text, "a second time changes nothing"
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("evaluation_strategy: steps   # often\n", "eval_strategy: steps   # often\n"),
        ("'no_cuda': yes\n", "'use_cpu': yes\n"),
        ("warmup_ratio: 3e-2\n", "warmup_steps: 3e-2\n"),
        ("warmup_ratio: 0.1\nwarmup_steps: 0  # none\n", "warmup_steps: 0.1\n# none\n"),
        ("warmup_ratio: 0\n", ""),
        ("group_by_length: true\n", "train_sampling_strategy: group_by_length\n"),
        ("group_by_length: false # no\n", "# no\n"),
        ("adafactor: true\n", "optim: adafactor\n"),
        ("optim: adamw_hf\n", "optim: adamw_torch\n"),
        ("fp16_backend: auto\nbf16: true\n", "bf16: true\n"),
        ("dispatch_batches: true # x\n", "accelerator_config:\n  dispatch_batches: true # x\n"),
        ("accelerator_config: {even_batches: true}\nsplit_batches: true\n",
         "accelerator_config: {even_batches: true, split_batches: true}\n"),
        ("fsdp_config:\n  version: 1\nfsdp_min_num_params: 5\n", "fsdp_config:\n  version: 1\n  min_num_params: 5\n"),
        ("image_resolution: 512\n", "image_max_pixels: 262144\n"),
        ("image_resolution: 262144\n", "image_max_pixels: 262144\n"),
        ("train_mm_proj_only: true  # projector\nlora_rank: 8\n",
         "freeze_vision_tower: true  # projector\nfreeze_multi_modal_projector: false\nfreeze_language_model: true\n"
         "lora_rank: 8\n"),
        ("gradient_checkpointing_kwargs:\n  use_reentrant: false\n",
         "activation_checkpointing_kwargs:\n  use_reentrant: false\n"),
        ("include_inputs_for_metrics: true\n", "include_for_metrics: [inputs]\n"),
        ("overwrite_output_dir: true\n", "overwrite_output_dir: true\n"),
        ("# a comment\nlearning_rate: 1e-4   # kept\n\n\n", "# a comment\nlearning_rate: 1e-4   # kept\n\n\n"),
    ],
)  # fmt: skip
def test_keys_and_values_in_place(old: str, new: str) -> None:
    found = upgraded(HEAD + old)
    assert found.text == HEAD + new
    assert not found.needs_attention, [one.message for one in found.diagnostics]
    assert upgraded((HEAD + old).replace("\n", "\r\n")).text == (HEAD + new).replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logging_dir: x", "`logging_dir` is not changed: set TENSORBOARD_LOGGING_DIR"),
        ("warmup_ratio: 0.1\nwarmup_steps: 50", "`warmup_steps` is set too, to another value"),
        ("fp16_backend: apex", "apex is gone"),
        ("lora_rnak: 8", "no known version of llamafactory or transformers has it"),
        ("warmup_ratio: lots", "`lots` has no equivalent any more"),
    ],
)
def test_what_only_a_person_can_tell_stays_and_is_said_with_its_line(text: str, said: str) -> None:
    found = upgraded(HEAD + text + "\n")
    assert found.text == HEAD + text + "\n"
    one = next(one for one in found.diagnostics if one.span and said in one.message)
    assert found.needs_attention
    assert one.span
    assert one.span.location == "x.yaml:3"


def test_a_key_goes_to_the_version_that_is_asked_for() -> None:
    text = HEAD + "warmup_ratio: 0.1\ngroup_by_length: true\ngradient_checkpointing: true\n"
    assert upgraded(text, {"transformers": "4.57.1"}).text == text
    after = HEAD + "warmup_steps: 0.1\ngroup_by_length: true\ngradient_checkpointing: true\n"
    assert upgraded(text, {"transformers": "5.0.0"}).text == after, "deprecated is rewritten too"
    old = upgraded(HEAD + "train_sampling_strategy: random\n", {"transformers": "4.57.1"})
    assert "added in transformers 5.2.0" in old.diagnostics[0].message


def test_a_name_that_another_package_has_now_needs_to_be_told() -> None:
    text = HEAD + "use_cache: false\n"
    assert upgraded(text).text == text, "transformers 5 has one of its own"
    assert upgraded(text, llamafactory="0.9.3").text == HEAD + "use_kv_cache: false\n"


def test_defaults_that_changed_are_said_where_it_is_known_what_they_were() -> None:
    said = [one.message for one in upgraded(HEAD, llamafactory="0.9.0", transformers="4.45.0").diagnostics]
    assert "`cutoff_len` is not set: its default is 2048 since llamafactory 0.9.1, and was 1024" in said
    assert any("`report_to`" in one for one in said)
    assert upgraded(HEAD).diagnostics == []


@pytest.mark.parametrize("change", catalog.key_changes("transformers") + catalog.key_changes("llamafactory"),
                         ids=lambda change: change.old)  # fmt: skip
@pytest.mark.parametrize("value", [True, 0.25, "auto"])
def test_after_every_change_the_keys_are_known(change: catalog.Change, value: Any) -> None:
    found = upgraded(HEAD + yaml.safe_dump({change.old: value}), llamafactory="0.9.0", transformers="4.41.2")
    keys = yaml.safe_load(found.text).keys()
    known = catalog.engine_schema("llamafactory", "0.9.5", "5.24.0")
    assert found.needs_attention or keys <= known.keys()


DS = """{
\t"train_micro_batch_size_per_gpu": 4,
\t"zero_optimization": {
\t\t"stage": 3,
\t\t"cpu_offload": true,
\t\t"stage3_gather_fp16_weights_on_model_save": true
\t}
}
"""


def test_a_deepspeed_configuration() -> None:
    found = upgraded(DS, {"deepspeed": "0.19.8"}, "ds.json")
    assert json.loads(found.text)["zero_optimization"] == {
        "stage": 3,
        "offload_optimizer": {"device": "cpu"},
        "gather_16bit_weights_on_model_save": True,
    }
    assert '\n\t\t"offload_optimizer": {"device": "cpu"},\n' in found.text


RECIPE = """\
engine = llamafactory("0.9.3")   # as on the cluster
llamafactory { vllm_maxlen = 10, use_cache = false }   # both
let n = 2
sft {
  model = hf("Qwen/Qwen3-0.6B")
  llamafactory {
    jit_mode_eval = false   # no
    ray_scope = "last",
    sglang_maxlen = 9
    dispatch_batches = true
    fp16_backend = n
  }
}
"""


def test_a_recipe_s_pin_and_what_it_passes_through() -> None:
    found = upgraded(RECIPE, {"llamafactory": "0.9.5"}, "r.ft")
    assert found.text == RECIPE.replace("0.9.3", "0.9.5").replace("use_cache", "use_kv_cache").replace(
        "    jit_mode_eval = false   # no\n", "    # no\n"
    ).replace('    ray_scope = "last",\n', "")
    left = {one.span.text: one.message for one in found.diagnostics if one.span and one.severity.value == "warning"}
    assert left.keys() == {"dispatch_batches", "fp16_backend"}
    assert "apex is gone" in left["fp16_backend"], "its value is worked out elsewhere"


def test_a_word_is_named_for_what_it_can_say() -> None:
    text = 'sft { llamafactory { evaluation_strategy = "steps" } }\n'
    found = upgraded(text, NOW, "r.ft")
    assert found.text == text.replace("evaluation_strategy", "eval_strategy")
    assert any("write `evaluate.every = …` outside the block" in one.message for one in found.diagnostics)


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(HEAD + "warmup_ratio: 0.1\n", encoding="utf-8")
    shown = ftc("upgrade", "t.yaml", "--to", "transformers==5.15", "--diff", cwd=tmp_path)
    assert (shown.returncode, "+warmup_steps: 0.1" in shown.stdout) == (0, True)
    assert path.read_text(encoding="utf-8") == HEAD + "warmup_ratio: 0.1\n"
    done = ftc("upgrade", "t.yaml", "--to", "transformers==5.15", cwd=tmp_path)
    assert done.stdout == ("t.yaml:3: `warmup_ratio` -> `warmup_steps`: `warmup_steps` below 1 is a share of all steps "
                           "[transformers 5.0.0 training_args.py:863, :1646]\n")  # fmt: skip
    assert path.read_text(encoding="utf-8") == HEAD + "warmup_steps: 0.1\n"
    assert ftc("upgrade", "t.yaml", "--to", "transformers==5.15", cwd=tmp_path).stderr == "t.yaml: nothing to change\n"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("transformers", "is not a version"),
        ("numpy==2", "the package `numpy` is not known"),
        ("transformers==3.0", "older than the oldest known version"),
    ],
)
def test_versions_nobody_knows(to: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(HEAD, encoding="utf-8")
    done = ftc("upgrade", "t.yaml", "--to", to, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (2, True)


def test_what_cannot_be_read_stays(tmp_path: Path) -> None:
    for name, text in {"a.yaml": "a: [1", "b.yaml": "x: 1\n", "c.ft": "sft {"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        done = ftc("upgrade", name, "--to", "transformers==5.15", cwd=tmp_path)
        assert (done.returncode, "error" in done.stderr) == (1, True)
        assert (tmp_path / name).read_text(encoding="utf-8") == text
