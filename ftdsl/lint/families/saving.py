"""What is kept of a run, where, and whether it can be gone on from."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import add, drop, put
from ftdsl.lint.rule import Findings, error, info, rule, warning


@rule("FT417")
def best_of_weights_only(config: Config) -> Findings:
    """What it does: finds `save_only_model` together with what needs whole checkpoints: the best model under
        DeepSpeed or FSDP, or sharded state.
    Why it matters: the trainer stops on it when it is made, after the model was loaded.
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
            f"{how} cannot bring back the best model from weights alone",
            also=((other, "wanted here"),),
            help=f"drop `{at.word}`, or `{other.word}`",
            fix=drop(at, safe=False),
        )
    state = config.accelerate and config.accelerate.get("fsdp_config.fsdp_state_dict_type")
    if config.fsdp and state == "SHARDED_STATE_DICT":
        yield error(
            at,
            f"`{at.word}` needs the whole state in one piece, and here it is sharded",
            help="write `fsdp_state_dict_type: FULL_STATE_DICT`",
        )


@rule("FT802")
def nothing_to_resume_from(config: Config) -> Findings:
    """What it does: finds `save_only_model` in a run that is to be resumed.
    Why it matters: without optimizer state a run that goes on is another run: warm-up and moments begin anew.
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
            "checkpoints of weights alone cannot be resumed",
            also=((other, "resumed here"),),
            help=f"drop `{at.word}`",
            fix=drop(at),
        )


@rule("FT803")
def output_in_use(config: Config) -> Findings:
    """What it does: says what a folder that is not empty does to the run: LLaMA-Factory goes on from the last
        checkpoint it finds, or stops at a finished model.
    Why it matters: a run that was meant to be new silently continues an old one, with the old schedule.
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
            f"`{at.text}` holds checkpoints, and the run goes on from the last one",
            help="write another folder, or `resume_from_checkpoint` to say that it is meant",
        )
    else:
        yield error(
            at,
            f"`{at.text}` holds a finished model, and LLaMA-Factory stops",
            help="write another folder, or `overwrite_output_dir: true`",
        )


@rule("FT804")
def resuming_needs_torch(config: Config) -> Findings:
    """What it does: finds a run that goes on from a checkpoint with a torch from before 2.6.
    Why it matters: transformers refuses to read the optimizer's and the scheduler's state with it
        (CVE-2025-32434): the run stops when the model is loaded.
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
            f"transformers {config.versions['transformers']} does not resume with torch {config.versions['torch']}",
            help="install torch 2.6 or newer",
        )


@rule("FT805")
def best_of_what(config: Config) -> Findings:
    """What it does: wants a metric where `save_strategy` is `best`.
    Why it matters: the trainer stops when it is made: there is nothing to compare checkpoints by.
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
            "the best is to be saved, and nothing says by which metric",
            help="write `metric_for_best_model: loss`",
            fix=add(config, at, "metric_for_best_model", "loss"),
        )


@rule("FT607")
def stage_cannot_do_that(config: Config) -> Findings:
    """What it does: finds what reward and PPO stages cannot do: bring back the best model, or resume with all
        weights.
    Why it matters: the first stops the run; the second is dropped without a word, and training begins anew.
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
        yield error(at, f"a {config.stage} stage cannot bring back its best model", help="drop it", fix=drop(at))
    if config.value("finetuning_type") in ("full", "freeze") and config.has("resume_from_checkpoint"):
        at = config.at("resume_from_checkpoint")
        yield error(
            at,
            f"a {config.stage} stage that trains all weights cannot be resumed: it begins anew",
            help="drop it, or use LoRA",
        )
    if config.stage == "ppo" and config.has("resume_from_checkpoint") and config.value("finetuning_type") == "lora":
        at = config.at("resume_from_checkpoint")
        yield error(at, "PPO cannot be resumed", help="start from the adapter: put it into `adapter_name_or_path`")


@rule("FT801")
def nan_never_logged(config: Config) -> Findings:
    """What it does: finds `logging_nan_inf_filter: true`, which hides NaN from the log.
    Why it matters: a loss of NaN is logged as the last good mean, so nobody, and no rule that watches the log,
        ever sees it.
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
            "a loss of NaN never reaches the log",
            help="write `logging_nan_inf_filter: false`",
            fix=put(at, "false"),
        )


@rule("FT119")
def logged_nowhere(config: Config) -> Findings:
    """What it does: says that nothing is logged where `report_to` is not set.
    Why it matters: transformers 5 changed the default from everything that is installed to nothing: curves that
        used to be there are missing after an upgrade.
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
            "no `report_to`: transformers 5 logs to no tracker",
            help="write `report_to: wandb`, or `report_to: none`",
            fix=add(config, at, "report_to", "none"),
        )


@rule("FT904")
def tracker_without_project(config: Config) -> Findings:
    """What it does: wants a project where trackio is logged to.
    Why it matters: without one LLaMA-Factory stops; with the default everything lands under `huggingface`.
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
