"""What only some kinds of stage can do: losses, packing, streaming, metrics, trackers."""

from __future__ import annotations

from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Amount

_SFT = {
    "train_on": ("responses", "which tokens count"),
    "loss": ("cross_entropy", "the loss"),
}


def only_sft(work: Work) -> None:
    """llamafactory/hparams/parser.py and train/sft/trainer.py: other stages ignore these, or stop."""
    kind = work.stage.kind
    if kind == "sft":
        return
    for key, (usual, what) in _SFT.items():
        if key == "loss" and kind == "dpo":  # has losses of its own
            continue
        if work.said(key) and work.name(key) not in ("", usual):
            work.refuse(key, f"{what} can be chosen in `sft` only, and this is `{kind}`", "drop it")
    packing = work.name("packing") if work.said("packing") else ""
    if work.get("packing") is True or packing == "neat" or (packing == "plain" and kind != "pretrain"):
        help = "write `packing = plain`" if kind == "pretrain" else "drop it"
        work.refuse("packing", f"`{kind}` cannot pack rows that are blind to each other", help)


def losses(work: Work) -> None:
    """ASFT: train/trainer_utils.py, create_ref_model makes no copy under LoRA. DPO: hparams/finetuning_args.py."""
    if work.name("loss") == "asft" and work.planned.method == "lora":
        work.refuse("loss", "ASFT needs a copy of the model, and LLaMA-Factory makes none for LoRA", "write `full {}`")
    if work.stage.kind == "dpo" and work.get("label_smoothing") and work.name("loss") != "sigmoid":
        work.refuse("label_smoothing", f"`{work.name('loss')}` has no label smoothing", "write `loss = sigmoid`")
    if work.stage.kind == "dpo" and work.name("loss") in ("orpo", "simpo") and work.said("reference"):
        work.refuse("reference", f"`{work.name('loss')}` compares with no reference", "drop it")
    referenced = work.stage.kind in ("kto", "ppo") or (
        work.stage.kind == "dpo" and work.name("loss") not in ("orpo", "simpo")
    )
    if work.name("lora.init") == "pissa" and referenced:
        why = "PiSSA changes the base, which is the reference here"
        work.refuse("lora.init", why, "write `init = zero`")


def streaming(work: Work) -> None:
    """llamafactory/hparams/data_args.py, parser.py; workers: data/loader.py splits a file into as many shards."""
    if not work.get("loader.streaming"):
        return
    duration = work.get("duration")
    if isinstance(duration, Amount) and duration.unit == "epochs":
        why = "a stream has no end, and the engine must know when to stop"
        work.refuse("duration", why, "write `duration = 1000 steps`")
    if work.get("limit"):
        work.refuse("limit", "a stream cannot be limited", "write `duration` in steps")
    held = work.get("evaluate.data")
    if isinstance(held, Amount) and held.unit == "share":
        why = "a share of a stream cannot be held out"
        work.refuse("evaluate.data", why, "write a number of rows: `data = 500`")
    if work.said("loader.workers") and not work.get("loader.workers"):
        why = "a streamed file is cut into as many parts as there are workers, and there are none"
        work.refuse("loader.workers", why, "write `workers = 1`")


def measured(work: Work) -> None:
    """llamafactory/hparams/parser.py: generation belongs to sft, the best checkpoint to all but reward and ppo."""
    names = set(work.names("evaluate.metrics"))
    if names & {"rouge", "bleu"} and work.stage.kind != "sft":
        work.refuse("evaluate.metrics", f"`{work.stage.kind}` generates nothing to score", "write `metrics = [loss]`")
    if names & {"rouge", "bleu"} and "accuracy" in names:
        work.refuse("evaluate.metrics", "accuracy cannot be measured together with rouge and bleu", "choose one")
    if work.get("save.best_by") is not None and work.stage.kind in ("reward", "ppo"):
        work.refuse("save.best_by", f"`{work.stage.kind}` keeps its last checkpoint, not its best", "drop it")


def described_tokens(work: Work) -> None:
    """llamafactory/hparams/model_args.py falls back to noise when there are no descriptions."""
    if work.name("tokenizer.init") == "described" and not hasattr(work.get("tokenizer.special"), "options"):
        why = "there are no descriptions to start the new tokens from"
        work.refuse("tokenizer.init", why, 'write `special = file("tokens.yaml")`: token: what it means')


TRACKERS = ("none", "wandb", "tensorboard", "trackio")


def reinforcement(work: Work) -> None:
    """llamafactory/train/ppo/trainer.py and hparams/parser.py: an old TRL, few trackers, no evaluation on the way."""
    if work.stage.kind != "ppo":
        return
    why = "PPO of LLaMA-Factory 0.9.5 needs trl <= 0.9.6, and `ftc engine install` brings a newer one"
    help = 'write `engine = llamafactory(python = "…")` of an environment with trl 0.9.6'
    work.session.sink.warning("FT901", why, work.stage.span, help=help)
    for tracker in work.names("track.to"):
        if tracker not in TRACKERS:
            work.refuse("track.to", f"PPO cannot report to `{tracker}`", f"one of: {', '.join(TRACKERS)}")
    if work.said("evaluate.data"):
        work.refuse("evaluate.data", "PPO evaluates nothing while it trains", "score the result in an `eval` stage")


LIMITS = (only_sft, losses, streaming, measured, described_tokens, reinforcement)
