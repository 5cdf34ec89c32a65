"""The modules that an adapter is applied to."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import rename
from ftdsl.lint.rule import Findings, error, rule


@rule("FT324")
def oft_target_ignored(config: Config) -> Findings:
    """What it does: finds `oft_target`, which LLaMA-Factory does not read.
    Why it matters: LLaMA-Factory takes the modules of an OFT adapter from `lora_target`: with `oft_target` alone every
        linear module is silently adapted.
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
        text = "LLaMA-Factory ignores `oft_target`: an OFT adapter uses the modules of `lora_target`"
        yield error(at, text, help=f"write `lora_target: {','.join(given)}`", fix=rename(at, "lora_target"))
