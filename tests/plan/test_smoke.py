"""A recipe in small: every word has its treatment, nothing only a card can do is left, and what was replaced is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.engines.jobs import Job
from ftdsl.engines.lower import engine_of, lower
from ftdsl.language.values import Term
from ftdsl.plan.choose import plan
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import shape_of
from ftdsl.session import Session
from ftdsl.smoke import rows
from ftdsl.smoke.models import toy_of
from ftdsl.smoke.recipe import SmokeRecipe, smoke
from ftdsl.smoke.report import lines
from tests.conftest import EXAMPLES, ROWS, Outcome, small

TABLE = catalog.smoke()
WORDS = vocabulary()
BLOCKS = [name for name in WORDS.block_names() if name not in ("search", "budget", "launch", "shell")]


def in_small(outcome: Outcome) -> tuple[SmokeRecipe, tuple[Job, ...]]:
    assert not [one for one in outcome.found if one.severity.value == "error"], outcome.found
    assert outcome.checked.recipe is not None
    session = Session()
    engines = engine_of(outcome.checked.recipe, session)
    made = smoke(outcome.checked.recipe, session.files, engines)
    jobs = lower(plan(made.recipe, session, engines), session)
    assert not session.sink.failed, [one.message for one in session.sink]
    return made, jobs


def yaml_of(jobs: tuple[Job, ...], key: str = "sft") -> dict[str, Any]:
    found: dict[str, Any] = next(
        document.data for job in jobs if job.key == key for document in job.documents if document.kind == "yaml"
    )
    return found


# --- the table


@pytest.mark.parametrize("block", [name for name in BLOCKS if name not in TABLE["drop"]])
def test_every_word_has_exactly_one_treatment(block: str) -> None:
    """A new word of the vocabulary is a line in catalog/data/smoke.toml: kept, dropped, replaced by its members, or coded."""
    for name in WORDS.block(block).keys:
        key = f"{block}.{name}"
        ways = [
            way
            for way, found in (
                ("keep", name in TABLE["keep"].get(block, ())), ("coded", name in TABLE["coded"].get(block, ())),
                ("drop", key in TABLE["drop"]), ("members", key in TABLE["members"]),
            )
            if found
        ]  # fmt: skip
        assert len(ways) == 1, f"`{key}` stands in {ways or 'none'} of [keep], [coded], [drop], [members] of smoke.toml"


def test_the_table_names_no_word_that_is_gone() -> None:
    blocks = set(WORDS.block_names())
    listed = {f"{block}.{name}" for part in ("keep", "coded") for block, names in TABLE[part].items() for name in names}
    for key in {*listed, *TABLE["drop"], *TABLE["members"]}:
        block, _, name = key.partition(".")
        assert block in blocks, key
        assert not name or name in WORDS.block(block).keys, key


def members_of(key: str) -> set[str]:
    block, _, name = key.partition(".")
    word = WORDS.block(block).keys[name]
    return set(word.members or ()) | (set(catalog.names(word.catalog)) if word.catalog else set())


@pytest.mark.parametrize("key", TABLE["members"])
def test_every_member_is_fine_on_a_cpu_or_replaced_by_one_that_is(key: str) -> None:
    entry = TABLE["members"][key]
    fine, card = set(entry["cpu"]), entry.get("gpu", {})
    assert not fine & set(card)
    assert {*card.values(), *([entry["else"]] if "else" in entry else [])} <= fine
    assert members_of(key) <= fine | set(card) or "else" in entry, members_of(key) - fine - set(card)


SPEAKS_OF_CARDS = ("cuda", "gpu", "card", "flash", "vllm", "npu", "unsloth", "liger", "triton", "fp8", "nvme")


def test_a_kept_word_never_speaks_of_cards() -> None:
    """A word whose members or description do is replaced, or looked at by code."""
    for block, names in TABLE["keep"].items():
        for name in names:
            word = WORDS.block(block).keys[name]
            said = " ".join([*members_of(f"{block}.{name}"), word.doc]).lower()
            assert not any(f" {sign}" in f" {said}" for sign in SPEAKS_OF_CARDS) or (block, name) in SEEN, (
                block,
                name,
                said,
            )


SEEN = {
    ("stage_quantize", "scheme"), ("stage_quantize", "library"), ("quantize", "double"), ("parallel", "sequence"),
    ("evaluate", "batch"),
}  # fmt: skip
"""Read by a person: they mention cards and run without."""


def test_every_passthrough_parameter_is_looked_at() -> None:
    listed = TABLE["passthrough"]
    assert not set(listed["keep"]) & set(listed["drop"])
    assert set(listed["keep"]) | set(listed["drop"]) == set(catalog.overlay("llamafactory")["_passthrough"]["keys"])


# --- what comes out


def said(key: str, member: str) -> str | None:
    """A stage that says a member, where its kind and block allow it without more."""
    block, _, name = key.partition(".")
    if block not in ("train", "optim", "lora"):
        return None
    return f"{name} = {member}" if block == "train" else f"{block} {{ {name} = {member} }}"


CARDS = [
    (key, member) for key, entry in TABLE["members"].items() for member in sorted(members_of(key) - set(entry["cpu"]))
]


REFUSED_ANYWAY = {
    ("train.attention", "flash3"),
    ("train.attention", "flex"),
    ("train.kernels", "cce"),
    ("train.kernels", "ktransformers"),
    ("optim.name", "adamw_hf"),
}
"""Not of this engine, or not with what else the recipe says: a real run refuses it too."""


@pytest.mark.parametrize(("key", "member"), [(key, member) for key, member in CARDS if said(key, member)])
def test_what_needs_a_card_does_not_come_through(key: str, member: str, checked: Callable[..., Outcome]) -> None:
    text = small(said(key, member) or "").replace("gpu = none", "gpu = h100(80GB)")
    outcome = checked(text, ROWS)
    refused = any(one.severity.value == "error" for one in outcome.found)
    assert refused == ((key, member) in REFUSED_ANYWAY), outcome.codes
    if refused:
        return
    made, _ = in_small(outcome)
    now = made.recipe.stages[0].settings.name(key.removeprefix("train."))
    assert now in TABLE["members"][key]["cpu"]
    assert any(one.key == key.removeprefix("train.") and member in one.was for one in made.replaced)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_no_example_wants_a_card_a_script_or_a_tracker(path: Path, example: Callable[[Path], Outcome]) -> None:
    made, jobs = in_small(example(path))
    assert all(job.accelerators == 0 and job.processes <= 2 and job.kind != "shell" for job in jobs)
    for job in jobs:
        for document in job.documents:
            if document.kind == "yaml" and "export_dir" not in document.data:
                assert document.data["use_cpu"] is True
                assert document.data["report_to"] == "none"
                assert document.data.get("max_steps", 4) == 4
    assert all(one.location.startswith(path.name) and one.as_json()["line"] > 0 for one in made.replaced)
    assert len("".join(lines(made.replaced))) > 0


@pytest.fixture
def example() -> Callable[[Path], Outcome]:
    def run(path: Path) -> Outcome:
        from ftdsl.language.resolve.resolve import Options
        from ftdsl.pipeline import check

        session = Session(env={})
        return Outcome(check(path, Options(), session), session.sink.ordered())

    return run


def test_what_nobody_wrote_is_told_too_at_the_stages_line(checked: Callable[..., Outcome]) -> None:
    made, _ = in_small(checked(small().replace("1 epoch", "9 epochs"), ROWS))
    told = {one.key: one for one in made.replaced}
    assert told["duration"].change == "duration 9 epochs -> 4 steps: a few steps"
    assert told["duration"].location == "recipe.ft:6"
    assert told["max_len"].was == "(not set)"
    assert told["max_len"].location == "recipe.ft:3"


METHODS = {
    "quantize { bits = 4, scheme = nf4 }, lora {}": {"quantization_bit": 4, "quantization_type": "nf4"},
    "oft { block = 32 }": {"finetuning_type": "oft", "oft_block_size": 32},
    "freeze { layers = last(8) }": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "lora { variant = dora, rslora = true, lr_ratio = 16 }": {"use_dora": True, "use_rslora": True, "loraplus_lr_ratio": 16},
    "lora { rank = 64, init = pissa(iterations = 16) }": {"pissa_init": True, "lora_rank": 8},
    "full {}, optim { name = galore(rank = 128) }": {"use_galore": True, "galore_rank": 128},
    "full {}, optim { schedule = [warmup(500 steps), hold(3000 steps), decay(2000 steps, to = 1%)] }": {
        "lr_scheduler_type": "warmup_stable_decay", "warmup_steps": 1},
    "packing = neat, template = qwen3": {"neat_packing": True, "template": "qwen3"},
}  # fmt: skip


@pytest.mark.parametrize("stage", METHODS)
def test_methods_are_kept(stage: str, checked: Callable[..., Outcome]) -> None:
    _, jobs = in_small(checked(small(stage), ROWS))
    found = yaml_of(jobs)
    assert {key: found.get(key) for key in METHODS[stage]} == METHODS[stage]


def test_deepspeed_is_kept_on_two_processes(checked: Callable[..., Outcome]) -> None:
    text = small("parallel { strategy = zero3, offload = [optimizer, params] }")
    made, jobs = in_small(checked(text.replace("gpu = none, count = 1", "gpu = h100(80GB), count = 8"), ROWS))
    job = next(job for job in jobs if job.key == "sft")
    config = next(document.data for document in job.documents if document.path.endswith("ds_config.json"))
    assert job.processes == 2
    assert config["zero_optimization"]["stage"] == 3
    assert config["zero_optimization"]["offload_param"]["device"] == "cpu"
    assert "sft" in made.recipe.resumed


# --- toys


MODELS = {
    "Qwen/Qwen3-8B": "qwen3", "Qwen/Qwen2.5-7B-Instruct": "qwen2", "Qwen/Qwen3-30B-A3B-Instruct-2507": "qwen3_moe",
    "meta-llama/Llama-3.1-8B-Instruct": "llama", "mistralai/Mistral-7B-v0.1": "mistral", "google/gemma-2-9b-it": "gemma2",
    "google/gemma-2b": "gemma", "google/gemma-3-4b-it": "gemma3_text", "microsoft/Phi-3-mini-4k-instruct": "phi3",
    "zai-org/GLM-4-9B-0414": "glm4", "deepseek-ai/DeepSeek-V3": "deepseek_v3", "deepseek-ai/DeepSeek-V2-Lite": "deepseek_v2",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "qwen2", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "llama",
    "Qwen/Qwen3-VL-4B-Instruct": "qwen3", "TechxGenus/Meta-Llama-3-8B-Instruct-GPTQ": "llama", "acme/own-thing": "llama",
}  # fmt: skip


@pytest.fixture
def recipe(checked: Callable[..., Outcome]) -> Recipe:
    found = checked(small(), ROWS).checked.recipe
    assert found is not None
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_architecture_is_the_models(name: str, recipe: Recipe) -> None:
    toy = toy_of(Term("hf", {"id": name}), recipe, recipe.stages[0], Session().files)
    assert toy.term.options["architecture"] == MODELS[name]
    assert ("without vision" in toy.now) == ("VL" in name)
    assert ("not quantised" in toy.now) == ("GPTQ" in name)
    assert ("not known" in toy.now) == ("acme" in name)


def test_a_real_config_counts_more_than_a_name(recipe: Recipe) -> None:
    folder = recipe.folder / "models" / "mine"
    folder.mkdir(parents=True)
    term = Term("file", {"path": "models/mine", "like": "Qwen/Qwen3-8B"})
    for config, architecture in (({"model_type": "gemma3"}, "gemma3_text"), ({"model_type": "own"}, "qwen3")):
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        toy = toy_of(term, recipe, recipe.stages[0], Session().files)
        assert (toy.term.options["architecture"], toy.term.options["place"]) == (architecture, "models/mine")


# --- data


@pytest.mark.parametrize("format", ["alpaca", "sharegpt", "openai", "text"])
@pytest.mark.parametrize("kind", ["sft", "dpo", "kto"])
def test_made_up_rows_have_the_declared_shape(format: str, kind: str) -> None:
    own = {"format": Term(format), "columns.system": "policy", "columns.tools": "api", "roles.user": "customer"}
    shape = shape_of(Settings("data", own), None, kind)
    made = [json.loads(line) for line in rows.rows(shape).decode().splitlines()]
    assert len({json.dumps(row) for row in made}) == rows.COUNT
    assert shape_of(Settings("data", own), made[0], kind).missing == ()
    if shape.roles and kind == "sft":
        talk = [turn[shape.roles["role"]] for turn in made[0][shape.columns["messages"]]]
        assert talk == ["customer", shape.roles["call"], shape.roles["tool"], shape.roles["assistant"]]
        assert json.loads(made[0]["api"])[0]["name"] == "look_up"


def test_made_up_files_share_no_row(checked: Callable[..., Outcome]) -> None:
    """Or a check for leaks between training and evaluation would find them."""
    made, _ = in_small(checked(small('evaluate { data = hf("a/held") }').replace('file("rows.jsonl")', 'hf("a/b")')))
    first, second = (set(content.splitlines()) for content in made.files.values())
    assert len(first) == len(second) == rows.COUNT
    assert not first & second


def test_pictures_are_left_out_and_said(checked: Callable[..., Outcome]) -> None:
    row = {
        "messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A."}],
        "images": ["a"],
    }
    made, _ = in_small(checked(small(), {"rows.jsonl": json.dumps(row) + "\n"}))
    assert any("images" in one.why and one.key == "data" for one in made.replaced)
    (content,) = made.files.values()
    assert b"image" not in content


def test_a_large_file_is_read_as_far_as_its_first_rows(checked: Callable[..., Outcome]) -> None:
    row = json.dumps({"instruction": "q" * 4000, "input": "", "output": "a"})
    made, _ = in_small(checked(small(), {"rows.jsonl": f"{row}\n" * 400}))
    assert [content.count(b"\n") for content in made.files.values()] == [64]
    assert any(one.now == "its first 64 rows" for one in made.replaced)


def test_what_a_smoke_run_made_is_refused(checked: Callable[..., Outcome]) -> None:
    for model in ('file("runs/x.smoke/1/10-sft/result")', 'adapter(file("copied"), base = hf("a/b"))', 'file("bare")'):
        files = {**ROWS, "copied/SMOKE_TEST.txt": "x", "bare/config.json": '{"ftdsl_smoke": true}'}
        text = small("template = qwen3").replace('hf("Qwen/Qwen3-0.6B")', model)
        found = checked(text, files).only("FT954")
        assert found.span is not None and found.span.location.endswith("recipe.ft:4")
    data = small().replace('"rows.jsonl"', '"runs/x.smoke/1/10-d/train.jsonl"')
    assert "FT954" in checked(data).codes


def test_searches_are_tried_once(checked: Callable[..., Outcome], tmp_path: Path) -> None:
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import compile_recipe

    text = (
        small("evaluate { data = 25% }\n  optim { lr ~ log(1e-6 .. 1e-4) }")
        + "search { trials = 3, goal = minimize(sft.eval_loss) }\n"
    )
    checked(text, ROWS)
    session = Session()
    assert compile_recipe(tmp_path / "recipe.ft", Options(), session) is None
    compiled = compile_recipe(tmp_path / "recipe.ft", Options(), Session(), smoke=True)
    assert compiled is not None
    assert any(one.key == "optim.lr" and one.now == "auto" for one in compiled.replaced)


def compiled_small(folder: Path, text: str) -> tuple[Session, Any]:
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.pipeline import compile_recipe

    (folder / "recipe.ft").write_text(text, encoding="utf-8")
    session = Session(env={})
    return session, compile_recipe(folder / "recipe.ft", Options(), session, smoke=True)


def test_data_that_is_not_here_is_made_up_and_said_once(tmp_path: Path) -> None:
    """CI has the recipes and not their data."""
    text = small().replace("rows.jsonl", "elsewhere/rows.jsonl")
    session, compiled = compiled_small(tmp_path, text)
    assert compiled is not None
    assert [one.code for one in session.sink] == []
    told = next(one for one in compiled.replaced if one.key == "data")
    assert told.change == "data elsewhere/rows.jsonl -> 32 generated alpaca rows: it is not on this machine"


PPO = """
sft    { model = hf("meta-llama/Llama-3.1-8B-Instruct"), data = file("a.json"), lora {} }
reward rm from sft { data = file("pairs.json") }
ppo from sft { reward = rm, data = file("a.json") }
merge from ppo { to = "out" }
"""


def test_a_stage_that_these_packages_cannot_run_is_left_out(tmp_path: Path) -> None:
    """What stands on it stands on what it would have started from."""
    session, compiled = compiled_small(tmp_path, PPO)
    assert compiled is not None
    assert [(one.code, one.severity.value) for one in session.sink] == [("FT615", "warning")]
    assert any(one.change.startswith("stage ppo -> left out: PPO needs trl 0.9.6") for one in compiled.replaced)
    merge = next(job for job in compiled.jobs if job.kind == "merge")
    assert not [job for job in compiled.jobs if job.kind == "ppo"]
    assert {"rm", "sft"} <= {job.key for job in compiled.jobs}
    assert "sft/result" in str([document.data for document in merge.documents])
