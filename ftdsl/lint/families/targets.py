"""Which modules an adapter goes on."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import rename
from ftdsl.lint.rule import Findings, error, rule


@rule("FT324")
def targets_of_lora_count(config: Config) -> Findings:
    """What it does: finds targets of OFT that nothing reads.
    Why it matters: LLaMA-Factory looks for the modules of an OFT adapter in `lora_target`, and there only: with
        `oft_target` every linear module gets one, without a word.
    Example:
        finetuning_type: oft
        oft_target: q_proj,v_proj
    Use instead:
        finetuning_type: oft
        lora_target: q_proj,v_proj
    Applies to: LLaMA-Factory
    Source: llamafactory/model/adapter.py:205 (0.9.5, run)
    """
    given = config.items("oft_target")
    if config.kind != "train" or config.value("finetuning_type") != "oft" or not config.has("oft_target"):
        return
    if given != config.items("lora_target") and given != ["all"]:
        at = config.at("oft_target")
        text = "nothing reads the targets of OFT: its adapter goes on the modules of `lora_target`"
        yield error(at, text, help=f"write `lora_target: {','.join(given)}`", fix=rename(at, "lora_target"))
