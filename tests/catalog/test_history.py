"""Facts through versions: what a version knows, since when, until when, and what took its place."""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from ftdsl import catalog


@pytest.mark.parametrize(
    ("package", "key", "since", "until", "instead"),
    [
        ("transformers", "evaluation_strategy", "4.41.2", "4.51.3", "eval_strategy"),
        ("transformers", "overwrite_output_dir", "4.41.2", "5.0.0", ""),
        ("transformers", "group_by_length", "4.41.2", "5.2.0", ""),
        ("transformers", "train_sampling_strategy", "5.2.0", "", ""),
        ("transformers", "warmup_ratio", "4.41.2", "5.15.1", "warmup_steps"),
        ("transformers", "activation_checkpointing", "5.23.0", "", ""),
        ("llamafactory", "early_stopping_steps", "0.9.3", "", ""),
        ("llamafactory", "use_eaft_loss", "0.9.5", "", ""),
        ("llamafactory", "new_special_tokens", "0.9.0", "0.9.3", "add_special_tokens"),
        ("llamafactory", "use_cache", "0.9.0", "0.9.4", "use_kv_cache"),
        ("deepspeed", "zero_optimization.zenflow", "0.17.6", "", ""),
    ],
)
def test_keys_come_and_go(package: str, key: str, since: str, until: str, instead: str) -> None:
    found = catalog.key_history(package, key)
    assert found is not None
    assert (found.since, found.until, found.replaced_by) == (since, until, instead)
    assert (key in catalog.schema(package, since), key in catalog.schema(package, until)) == (True, not until)


def test_what_nobody_ever_had_has_no_history() -> None:
    assert catalog.key_history("transformers", "lora_rank") is None


def test_defaults_change() -> None:
    found = catalog.key_history("llamafactory", "cutoff_len")
    assert found is not None
    assert found.defaults() == [("0.9.0", 1024), ("0.9.1", 2048)]


@pytest.mark.parametrize(
    ("package", "asked", "taken"),
    [
        ("transformers", "5.6.0", "5.6.0"),
        ("transformers", "5.6.1", "5.6.0"),
        ("transformers", "5.10.1", "5.10.4"),
        ("transformers", "5.6.0.dev0", "5.6.0"),
        ("transformers", "9.0", "newest"),
        ("transformers", "3.0", "4.41.2"),
        ("llamafactory", "0.9.6.dev0", "newest"),
    ],
)
def test_the_nearest_version_stands_in(package: str, asked: str, taken: str) -> None:
    found = catalog.nearest(package, asked)
    assert found.version == (catalog.newest(package) if taken == "newest" else taken)
    assert found.exact == (found.version == asked)


def test_metadata_and_run_time_check_are_both_kept() -> None:
    pin = catalog.pins("llamafactory", "0.9.5")["accelerate"]
    assert (pin.metadata, pin.check) == ("<=1.11.0,>=1.3.0", ">=1.3.0,<=1.15.0")
    assert pin.newest == "1.11.0", "both must admit it"
    assert catalog.beside_engine("llamafactory", "0.9.5", "transformers") == "5.6.0"
    assert catalog.pins("llamafactory", "0.9.5")["badam"].file == "llamafactory/hparams/parser.py"


def test_requirements_are_read_as_packaging_reads_them() -> None:
    pairs = 0
    for engine_version in catalog.versions("llamafactory"):
        for package, pin in catalog.pins("llamafactory", engine_version).items():
            if not catalog.versions(package):
                continue
            for wanted in filter(None, (pin.metadata, pin.check)):
                for version in (*catalog.versions(package), "4.57.0", "0.18.0"):
                    assert catalog.admits(wanted, version) == SpecifierSet(wanted).contains(version), (wanted, version)
                    pairs += 1
    assert pairs > 500
    assert catalog.admits("~=1.4.2", "1.4.9+cpu")
    assert not catalog.admits("~=1.4.2", "1.5.0")
    assert catalog.admits("==4.46.*", "4.46.1.dev0")


def test_an_engine_takes_its_own_parameters_and_the_trainer_s() -> None:
    now, then = catalog.engine_schema("llamafactory"), catalog.engine_schema("llamafactory", "0.9.0")
    assert {"lora_rank", "learning_rate"} <= now.keys() & then.keys()
    assert "warmup_ratio" in catalog.engine_schema("llamafactory", "0.9.5", "4.57.1")
    assert "warmup_ratio" not in catalog.engine_schema("llamafactory", "0.9.5", "5.15.1")
    assert now["flash_attn"]["choices"] == ["auto", "disabled", "sdpa", "fa2", "fa3"]
    assert "compute_dtype" not in now, "made by the class itself: the parser takes no such key"


@pytest.mark.parametrize("package", ["transformers", "llamafactory", "deepspeed"])
def test_changes_and_history_hold_to_each_other(package: str) -> None:
    known = catalog.table(package)
    for change in catalog.key_changes(package):
        history = catalog.key_history(package, change.old)
        assert history is not None, change.old
        assert history.until or change.deprecated, f"{change.old} is still there and not deprecated"
        assert bool(change.targets) or change.drop or change.hand, change.old
        for target in change.targets:
            name = target if package == "deepspeed" else target.partition(".")[0]
            assert history.until in known.names.get(name, ()) or name in known.at(history.until or known.versions[-1])


@pytest.mark.parametrize("package", ["transformers", "llamafactory"])
def test_every_key_that_went_is_explained(package: str) -> None:
    for name in catalog.table(package).names:
        history = catalog.key_history(package, name)
        assert history is not None
        if history.until:
            assert catalog.replacement(package, name) is not None, name


def test_modules_of_architectures() -> None:
    dense, sparse = catalog.modules("qwen3"), catalog.modules("qwen3_moe", "5.6.0")
    assert dense is not None and sparse is not None
    assert dense.linear == ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert (dense.experts, sparse.experts) == ((), ("down_proj", "gate_up_proj"))
    before = catalog.modules("qwen3_moe", "4.57.1")
    assert before is not None and before.experts == (), "transformers 5 fused them"
    seeing = catalog.modules("qwen2_5_vl")
    assert seeing is not None and "qkv" in seeing.vision and "qkv" not in seeing.linear
    assert catalog.modules("nobody") is None
    assert catalog.default_targets("qwen3") and catalog.default_targets("gpt2") == ["c_attn"]


def test_all_packages_have_a_history() -> None:
    assert catalog.packages() == ["accelerate", "deepspeed", "llamafactory", "peft", "transformers", "trl"]
    assert "r" in {name.partition(".")[2] for name in catalog.schema("peft")}
    assert catalog.schema("accelerate", "1.15.0", "launch")["num_processes"]["type"] == "int"
    assert catalog.schema("trl", "0.24.0")["DPOConfig.beta"]["default"] == 0.1
    assert (
        catalog.schema("deepspeed")["zero_optimization.prefetch_bucket_size"]["alias"] == "stage3_prefetch_bucket_size"
    )
    assert catalog.about("llamafactory", "lora_rank")
