"""Base models, adapters, references and reward models of a stage."""

from __future__ import annotations

import re

from ftdsl import catalog
from ftdsl.lint.config import Config
from ftdsl.lint.edits import add, drop, put
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning


def as_written(config: Config, path: str) -> str:
    """A path as its author wrote it: in a recipe's parameters its files are below the link `inputs`."""
    return path.removeprefix("inputs/") if config.form == "recipe" else path


@rule("FT601")
def reference_is_the_base(config: Config) -> Findings:
    """What it does: finds preference training that continues an adapter without a reference model.
    Why it matters: with LoRA the reference is the model with its adapter disabled. If the SFT adapter is trained
        further, that is the base, not the SFT model: the KL term pulls away from what SFT taught.
    Example:
        stage: dpo
        learning_rate: 5e-6
        adapter_name_or_path: saves/sft
    Use instead:
        stage: dpo
        learning_rate: 5e-6
        adapter_name_or_path: saves/sft
        create_new_adapter: true
    Applies to: LLaMA-Factory
    Source: llamafactory/train/trainer_utils.py:116-148, create_ref_model (0.9.5); LLaMA-Factory#8974
    """
    refers = config.stage == "kto" or (config.stage == "dpo" and config.value("pref_loss") not in ("orpo", "simpo"))
    continued = config.has("adapter_name_or_path") and not config.on("create_new_adapter")
    if (
        config.trains
        and config.form != "recipe"  # it names its reference
        and refers
        and continued
        and config.value("finetuning_type") == "lora"
        and not config.has("ref_model")
    ):
        at = config.at("adapter_name_or_path")
        yield warning(
            at,
            "the reference is the base model without this adapter",
            help="write `create_new_adapter: true`, or set `ref_model`",
            fix=add(config, at, "create_new_adapter", True, safe=False),
        )


@rule("FT605")
def adapter_of_another_base(config: Config) -> Findings:
    """What it does: compares the base model in an adapter's adapter_config.json with the model of the run.
    Why it matters: shapes often match within a model family, so the adapter is silently applied to weights it was
        not trained on.
    Example:
        # with: adapter=saves/sft:Qwen/Qwen3-8B-Base
        adapter_name_or_path: saves/sft
        model_name_or_path: Qwen/Qwen3-8B
    Use instead:
        # with: adapter=saves/sft:Qwen/Qwen3-8B
        adapter_name_or_path: saves/sft
        model_name_or_path: Qwen/Qwen3-8B
    Applies to: PEFT
    Source: peft/peft_model.py, from_pretrained (0.18.1): the base is not compared
    """
    model = str(config.value("model_name_or_path"))
    listed = catalog.schema("llamafactory", "", "models") if config.adapter_bases else {}
    for path in config.items("adapter_name_or_path"):
        base = config.adapter_bases.get(path, "")
        if not base or _bare(base) == _bare(model):
            continue
        at, text = config.at("adapter_name_or_path"), f"`{as_written(config, path)}` was trained on {base}"
        if base in listed and model in listed:
            other = config.at("model_name_or_path")
            yield error(at, text, also=((other, "a different model"),), help=f"start from {base}")
        else:
            yield warning(
                at, text, label=f"this run starts from {model}", help="make sure that both are the same model"
            )


_PACKED = re.compile(r"(-unsloth)?-(bnb-4bit|gptq|awq|aqlm|int[48]|4bit|8bit).*$")


def _bare(model: str) -> str:
    """The model's name without its owner and without suffixes of quantised formats."""
    return _PACKED.sub("", model.rstrip("/").rpartition("/")[2].lower())


@rule("FT603")
def parent_adapter_missing(config: Config) -> Findings:
    """What it does: finds an adapter that was trained on top of another adapter which is missing here.
    Why it matters: with `create_new_adapter` the first adapter is merged into the base in memory only; merged or
        served without it, the result lacks all of its training. Known from an earlier command of the same script,
        LlamaBoard's training_args.yaml or a run of ftc.
    Example:
        # with: below=saves/dpo:saves/sft
        adapter_name_or_path: saves/dpo
        export_dir: models/aligned
    Use instead:
        # with: below=saves/dpo:saves/sft
        adapter_name_or_path: saves/sft,saves/dpo
        export_dir: models/aligned
    Applies to: LLaMA-Factory
    Source: llamafactory/model/adapter.py:163-186 (0.9.5); LLaMA-Factory#2588
    """
    given = config.items("adapter_name_or_path")
    at = config.at("adapter_name_or_path")
    for index, name in enumerate(given):
        missing = [below for below in config.adapters_below.get(name, ()) if below not in given[:index]]
        if missing:
            whole = ",".join(
                [*[adapter for adapter in given if adapter not in missing and adapter != name], *missing, name]
            )
            yield error(
                at,
                f"`{as_written(config, name)}` was trained on top of `{as_written(config, missing[0])}`, which is missing",
                help=f"write `{','.join(as_written(config, path) for path in whole.split(','))}`",
                fix=put(at, whole) if config.form == "yaml" and isinstance(at.value, str) else None,
            )


@rule("FT606")
def invalid_preference_settings(config: Config) -> Findings:
    """What it does: finds invalid settings of preference and PPO training: label smoothing with a loss other than
        sigmoid, PPO without a reward model, a LoRA reward model without LoRA, a tracker that PPO does not support,
        evaluation in PPO.
    Why it matters: all of them stop the run, some after the model is loaded.
    Example:
        stage: dpo
        learning_rate: 5e-6
        pref_loss: ipo
        dpo_label_smoothing: 0.1
        ---
        stage: ppo
        ---
        stage: ppo
        finetuning_type: full
        learning_rate: 1e-6
        reward_model: saves/rm
        ---
        stage: ppo
        reward_model: Qwen/Qwen2.5-7B-Instruct
        reward_model_adapters: saves/rm
        ---
        stage: ppo
        reward_model: saves/rm
        report_to: mlflow
        ---
        stage: ppo
        do_train: false
        reward_model: saves/rm
        ---
        stage: ppo
        reward_model: reward.example.org
        reward_model_type: api
    Use instead:
        stage: ppo
        reward_model: saves/rm
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/finetuning_args.py:576-587, parser.py:435-452, train/trainer_utils.py:153 (0.9.5)
    """
    if config.kind != "train":
        return
    if (
        config.stage == "dpo"
        and config.value("pref_loss") != "sigmoid"
        and (config.number("dpo_label_smoothing") or 0) > 1e-6
    ):
        at = config.at("dpo_label_smoothing")
        yield error(
            at,
            f"`{at.word}` needs the sigmoid loss, but the loss is {config.value('pref_loss')}",
            help="drop it",
            fix=drop(at),
        )
    if config.stage == "ppo":
        yield from _ppo(config)


def is_whole_model(name: str) -> bool:
    """Whether a name is that of a base model on a hub."""
    return any(catalog.listed(engine, name) for engine in catalog.built_in_engines())


def _ppo(config: Config) -> Findings:
    at = config.first("stage")
    method, kind = config.value("finetuning_type"), config.value("reward_model_type")
    reward = config.value("reward_model")
    if reward is None:
        yield error(at, "PPO needs a reward model", help="write `reward_model: saves/rm`")
    elif kind == "lora" and method != "lora":
        yield error(
            config.first("reward_model_type", "reward_model"),
            f"a LoRA reward model needs LoRA training, but the method is {method}",
            help="write `reward_model_type: full`",
        )
    elif kind == "lora" and (is_whole_model(str(reward)) or config.has("reward_model_adapters")):
        instead = config.value("reward_model_adapters")
        yield error(
            config.at("reward_model"),
            f"a LoRA reward model is an adapter of the policy's own model, and `{reward}` is a whole one",
            help=f"write `reward_model: {instead}`, or `reward_model_type: full`"
            if instead
            else "write `reward_model_type: full`",
        )
    elif kind == "api" and not str(reward).startswith("http"):
        yield error(config.at("reward_model"), "a reward server needs a full URL", help=f"write `http://{reward}`")
    if not config.on("do_train"):
        yield error(config.first("do_train", "stage"), "PPO supports training only", help="evaluate with `stage: sft`")
    trackers = [name for name in config.items("report_to") if name not in ("wandb", "tensorboard", "trackio", "none")]
    if trackers:
        yield error(
            config.at("report_to"),
            f"PPO does not support the tracker {trackers[0]}",
            help="it supports wandb, tensorboard and trackio",
        )
    if config.has("eval_dataset") or (config.number("val_size") or 0) > 1e-6:
        yield error(
            config.first("eval_dataset", "val_size"),
            "PPO does not support evaluation",
            help="drop it, and evaluate in a separate stage",
        )


@rule("FT615")
def ppo_needs_old_trl(config: Config) -> Findings:
    """What it does: finds PPO with a TRL that LLaMA-Factory's PPO trainer does not support.
    Why it matters: the trainer asserts trl 0.8.6 to 0.9.6 on import, while the rest of LLaMA-Factory 0.9.5 needs
        0.18 or newer: PPO needs a separate environment.
    Example:
        stage: ppo
        reward_model: saves/rm
    Use instead:
        # with: trl=0.9.6
        stage: ppo
        reward_model: saves/rm
    Applies to: LLaMA-Factory with trl > 0.9.6
    Source: llamafactory/train/ppo/trainer.py:91 (0.9.5)
    """
    version = config.version("trl")
    if config.trains and config.stage == "ppo" and version > (0, 9, 6):
        at = config.first("stage")
        yield error(
            at,
            f"PPO does not support trl {config.versions['trl']}",
            help="install trl 0.9.6 in a separate environment, and set DISABLE_VERSION_CHECK=1",
        )


@rule("FT618")
def evaluation_without_reference(config: Config) -> Findings:
    """What it does: finds a DPO evaluation without a reference model.
    Why it matters: rewards are relative to a reference; without one the model is compared with itself, and
        all rewards are 0.
    Example:
        stage: dpo
        do_train: false
        do_eval: true
        eval_dataset: pairs
    Use instead:
        stage: dpo
        do_train: false
        do_eval: true
        eval_dataset: pairs
        ref_model: Qwen/Qwen3-8B
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:482 (0.9.5) warns; train/dpo/workflow.py
    """
    if config.kind == "train" and config.stage == "dpo" and not config.on("do_train") and not config.has("ref_model"):
        at = config.first("stage")
        yield warning(at, "rewards are relative to a reference model, but there is none", help="set `ref_model`")


@rule("FT639", EVERY)
def reward_model_of_another_kind(config: Config) -> Findings:
    """What it does: finds a reward model of TRL in LLaMA-Factory's PPO, and one of LLaMA-Factory in a run of TRL.
    Why it matters: TRL's is a classifier with one output, LLaMA-Factory's a model with a value head: the other loads its body,
        and scores with a head of random numbers, or stops.
    Example:
        # with: reward=classifier, trl=0.9.6
        stage: ppo
        reward_model: saves/rm
        ---
        # with: trainer=grpo, reward=value_head
        reward_model_name_or_path: saves/rm
    Use instead:
        # with: reward=value_head, trl=0.9.6
        stage: ppo
        reward_model: saves/rm
        ---
        # with: trainer=grpo, reward=classifier
        reward_model_name_or_path: saves/rm
    Applies to: LLaMA-Factory, TRL
    Source: llamafactory/model/model_utils/valuehead.py (0.9.5); trl/trainer/grpo_trainer.py:540 (1.16.0)
    """
    name = "reward_model_name_or_path" if config.trainer else "reward_model"
    wanted, other = ("classifier", "LLaMA-Factory") if config.trainer else ("value head", "TRL")
    if config.has(name) and config.reward_form and config.reward_form != wanted:
        at = config.at(name)
        form = f"a {config.reward_form}"
        yield error(
            at, f"`{config.value(name)}` is {form}, as {other} trains them", help=f"train one with a {wanted} here"
        )


@rule("FT640", EVERY)
def adapter_needs_newer_peft(config: Config) -> Findings:
    """What it does: finds an adapter on fused experts where PEFT is older than 0.19.
    Why it matters: PEFT writes adapters of parameters (`target_parameters`) in another form since 0.19: one that an older release
        reads is not the one that was trained.
    Example:
        # with: peft=0.18.1, parameters=saves/moe
        adapter_name_or_path: saves/moe
    Use instead:
        # with: peft=0.19.0, parameters=saves/moe
        adapter_name_or_path: saves/moe
    Applies to: PEFT < 0.19
    Source: files of one adapter, written by PEFT 0.18.1 and 0.21.2, differ (run)
    """
    version = config.version("peft")
    if not () < version < (0, 19):
        return
    for name in config.items("adapter_name_or_path"):
        if name in config.adapters_of_parameters:
            at = config.at("adapter_name_or_path")
            text = (
                f"`{name}` is on fused experts, which PEFT {config.versions['peft']} writes and reads in another form"
            )
            yield error(at, text, help="install PEFT 0.19 or newer, or merge it where it was trained")
