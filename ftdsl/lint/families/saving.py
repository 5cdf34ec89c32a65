"""Checkpoints, resuming, logs and trackers."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import add, drop, put
from ftdsl.lint.rule import EVERY, Findings, error, info, rule, warning


@rule("FT417", EVERY)
def best_model_needs_full_checkpoints(config: Config) -> Findings:
    """What it does: finds `save_only_model` together with what needs full checkpoints: the best model under
        DeepSpeed or FSDP, or sharded state.
    Why it matters: the trainer stops when it is created, after the model is loaded.
    Example:
        save_only_model: true
        load_best_model_at_end: true
        eval_strategy: steps
        eval_steps: 100
        save_steps: 100
        val_size: 0.1
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
        ---
        save_only_model: true
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_state_dict_type: SHARDED_STATE_DICT}
    Use instead:
        save_only_model: true
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    Applies to: transformers
    Source: transformers/trainer.py:838-861 (5.6.0)
    """
    if not config.on("save_only_model"):
        return
    at = config.at("save_only_model")
    sharded = config.deepspeed is not None or config.fsdp is not None
    if sharded and config.on("load_best_model_at_end"):
        how = "DeepSpeed" if config.deepspeed is not None else "FSDP"
        other = config.at("load_best_model_at_end")
        yield error(
            at,
            f"{how} cannot restore the best model from weights only",
            also=((other, "set here"),),
            help=f"drop `{at.word}` or `{other.word}`",
            fix=drop(at, safe=False),
        )
    state = config.accelerate and config.accelerate.get("fsdp_config.fsdp_state_dict_type")
    if config.fsdp and state == "SHARDED_STATE_DICT":
        yield error(
            at,
            f"`{at.word}` needs a full state dict, not a sharded one",
            help="write `fsdp_state_dict_type: FULL_STATE_DICT`",
        )


@rule("FT802", EVERY)
def resume_needs_optimizer_state(config: Config) -> Findings:
    """What it does: finds `save_only_model` in a run that resumes.
    Why it matters: without the optimizer state, warm-up and moments start from scratch.
    Example:
        save_only_model: true
        resume_from_checkpoint: saves/x/checkpoint-500
    Use instead:
        save_only_model: false
        resume_from_checkpoint: saves/x/checkpoint-500
    Applies to: transformers
    Source: transformers#27751, #36626; trainer.py _save_checkpoint (5.6.0)
    """
    if config.on("save_only_model") and config.has("resume_from_checkpoint"):
        at, other = config.at("save_only_model"), config.at("resume_from_checkpoint")
        yield error(
            at,
            "a run cannot resume from weights only",
            also=((other, "resumes here"),),
            help=f"drop `{at.word}`",
            fix=drop(at),
        )


@rule("FT803")
def output_in_use(config: Config) -> Findings:
    """What it does: finds an output folder that is not empty: LLaMA-Factory resumes from its last checkpoint, or stops
        if it holds a finished model.
    Why it matters: a run that was meant to be new silently resumes an old one, with the old schedule.
    Example:
        # with: output=checkpoint
        output_dir: saves/x
        ---
        # with: output=model
        output_dir: saves/x
    Use instead:
        # with: output=checkpoint
        output_dir: saves/x
        resume_from_checkpoint: saves/x/checkpoint-500
        ---
        # with: output=model
        output_dir: saves/x
        overwrite_output_dir: true
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:526-545 (0.9.5)
    """
    quiet = config.has("resume_from_checkpoint") or config.on("overwrite_output_dir") or not config.trains
    if config.output in ("", "nothing") or quiet:
        return
    at = config.at("output_dir")
    if config.output == "checkpoint":
        yield warning(
            at,
            f"`{at.text}` holds checkpoints: the run resumes from the last one",
            help="use another folder, or set `resume_from_checkpoint` if that is intended",
        )
    else:
        yield error(
            at,
            f"`{at.text}` holds a finished model: LLaMA-Factory stops",
            help="use another folder, or write `overwrite_output_dir: true`",
        )


@rule("FT804", EVERY)
def resuming_needs_torch(config: Config) -> Findings:
    """What it does: finds a run that resumes with torch before 2.6.
    Why it matters: transformers then refuses to load the state of optimizer and scheduler (CVE-2025-32434): the run
        stops when the model is loaded.
    Example:
        # with: torch=2.5.1
        resume_from_checkpoint: saves/x/checkpoint-500
    Use instead:
        # with: torch=2.6.0
        resume_from_checkpoint: saves/x/checkpoint-500
    Applies to: transformers from 4.52
    Source: transformers/utils/import_utils.py, check_torch_load_is_safe, called in trainer.py (4.52.4; not in 4.51.3)
    """
    torch, transformers = config.version("torch"), config.version("transformers")
    if config.trains and config.has("resume_from_checkpoint") and () < torch < (2, 6) and transformers >= (4, 52):
        yield error(
            config.at("resume_from_checkpoint"),
            f"transformers {config.versions['transformers']} cannot resume with torch {config.versions['torch']}",
            help="install torch 2.6 or newer",
        )


@rule("FT805", EVERY)
def best_without_metric(config: Config) -> Findings:
    """What it does: finds `save_strategy: best` without a metric.
    Why it matters: the trainer stops when it is created, as nothing ranks the checkpoints.
    Example:
        save_strategy: best
        eval_strategy: steps
        eval_steps: 100
        val_size: 0.1
    Use instead:
        save_strategy: best
        metric_for_best_model: loss
        eval_strategy: steps
        eval_steps: 100
        val_size: 0.1
    Applies to: transformers
    Source: transformers/trainer.py:640 (5.6.0)
    """
    if config.value("save_strategy") != "best":
        return
    at = config.at("save_strategy")
    if not config.has("metric_for_best_model") and not config.on("load_best_model_at_end"):
        yield error(
            at,
            "saving the best checkpoint needs a metric",
            help="write `metric_for_best_model: loss`",
            fix=add(config, at, "metric_for_best_model", "loss"),
        )


@rule("FT607")
def unsupported_by_stage(config: Config) -> Findings:
    """What it does: finds what reward and PPO stages do not support: restoring the best model, resuming full training.
    Why it matters: the first stops the run; the second is silently ignored, and training starts from scratch.
    Example:
        stage: rm
        load_best_model_at_end: true
        eval_strategy: steps
        eval_steps: 100
        save_steps: 100
        val_size: 0.1
        ---
        stage: rm
        finetuning_type: full
        learning_rate: 1e-5
        resume_from_checkpoint: saves/x/checkpoint-500
    Use instead:
        stage: rm
        resume_from_checkpoint: saves/x/checkpoint-500
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:432, 516-524 (0.9.5)
    """
    if config.stage not in ("rm", "ppo") or config.kind != "train":
        return
    if config.on("load_best_model_at_end"):
        at = config.at("load_best_model_at_end")
        yield error(at, f"a {config.stage} stage cannot restore its best model", help="drop it", fix=drop(at))
    if config.value("finetuning_type") in ("full", "freeze") and config.has("resume_from_checkpoint"):
        at = config.at("resume_from_checkpoint")
        yield error(
            at,
            f"a {config.stage} stage that trains all weights cannot resume: it starts from scratch",
            help="drop it, or use LoRA",
        )
    if config.stage == "ppo" and config.has("resume_from_checkpoint") and config.value("finetuning_type") == "lora":
        at = config.at("resume_from_checkpoint")
        yield error(at, "PPO cannot resume", help="start from the adapter: set it as `adapter_name_or_path`")


@rule("FT801", EVERY)
def nan_never_logged(config: Config) -> Findings:
    """What it does: finds `logging_nan_inf_filter: true`, which hides NaN from the log.
    Why it matters: a NaN loss is logged as the last finite mean, so neither people nor tools that watch the log see it.
    Example:
        logging_nan_inf_filter: true
    Use instead:
        logging_nan_inf_filter: false
    Applies to: transformers
    Source: transformers/training_args.py:1005 (5.6.0; true by default), trainer.py _maybe_log_save_evaluate
    """
    if config.is_explicit("logging_nan_inf_filter") and config.on("logging_nan_inf_filter"):
        at = config.at("logging_nan_inf_filter")
        yield warning(
            at,
            "a NaN loss never reaches the log",
            help="write `logging_nan_inf_filter: false`",
            fix=put(at, "false"),
        )


@rule("FT119", EVERY)
def no_tracker(config: Config) -> Findings:
    """What it does: points out that without `report_to` no tracker is used.
    Why it matters: transformers 5 changed the default from all installed trackers to none: curves are missing after
        an upgrade.
    Example:
        report_to: null
    Use instead:
        report_to: none
        ---
        report_to: wandb
    Applies to: transformers >= 5.0
    Source: transformers/training_args.py:1042 (5.6.0)
    """
    if (
        config.trains
        and not config.has("report_to")
        and config.version("transformers") >= (5,)
        and config.form != "recipe"
    ):
        at = config.first("output_dir")
        yield info(
            at,
            "without `report_to` transformers 5 uses no tracker",
            help="write `report_to: wandb`, or `report_to: none`",
            fix=add(config, at, "report_to", "none"),
        )


@rule("FT904")
def tracker_without_project(config: Config) -> Findings:
    """What it does: finds trackio without a project.
    Why it matters: LLaMA-Factory stops; with the default, all runs go to the project `huggingface`.
    Example:
        report_to: trackio
        project: ""
    Use instead:
        report_to: trackio
        project: support
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:128-168, _verify_trackio_args (0.9.5)
    """
    if "trackio" in config.items("report_to") and not config.value("project"):
        at = config.first("project", "report_to")
        yield error(at, "trackio needs a project", help="write `project: name`")
