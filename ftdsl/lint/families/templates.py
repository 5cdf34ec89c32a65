"""Chat templates: do they match the model?"""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.lint.config import Config
from ftdsl.lint.edits import add, put
from ftdsl.lint.rule import Findings, info, rule, warning


def template_fact(config: Config, name: str) -> bool:
    """A flag of the template in the engine's own list: `reasoning`, `efficient_eos`."""
    known = catalog.schema(config.engine, config.versions.get(config.engine, ""), "templates")
    return bool(known.get(str(config.value("template")), {}).get(name))


@rule("FT503")
def template_of_another_family(config: Config) -> Findings:
    """What it does: checks that the template belongs to the model's family, by LLaMA-Factory's own list.
    Why it matters: the model is trained to end its turns with another token than before: the loss looks fine, but at
        inference answers do not stop.
    Example:
        model_name_or_path: meta-llama/Meta-Llama-3.1-8B-Instruct
        template: qwen
    Use instead:
        model_name_or_path: meta-llama/Meta-Llama-3.1-8B-Instruct
        template: llama3
    Applies to: LLaMA-Factory
    Source: llamafactory/extras/constants.py (register_model_group), data/template.py (0.9.5); LLaMA-Factory#5834
    """
    given = config.value("template")
    wanted = catalog.template_for_model(
        config.engine, str(config.value("model_name_or_path")), config.versions.get(config.engine, "")
    )
    if (
        not config.is_explicit("template")
        or wanted is None
        or config.stage == "pt"
        or given in ("default", "empty", "alpaca", "fewshot")
    ):
        return
    own = given not in catalog.templates(
        config.engine, config.versions.get(config.engine, "")
    )  # the recipe's own, or FT002's
    if own or family(str(given)) == family(wanted):
        return
    at = config.at("template")
    yield warning(
        at,
        f"`{given}` is not the template of this model's family",
        label=f"LLaMA-Factory lists `{wanted}`",
        help=f"write `{wanted}`",
        fix=put(at, wanted, safe=False),
    )


def family(template: str) -> str:
    """Family of templates that end turns alike, including variants with reasoning, tools or images."""
    stem = template.removesuffix("_nothink")
    for known in (
        "qwen",
        "llama2",
        "llama3",
        "llama4",
        "mistral",
        "gemma4",
        "gemma3",
        "gemma",
        "deepseek",
        "glm4",
        "phi4",
        "phi",
    ):
        if stem.startswith(known):
            return known
    return {"mllama": "llama3", "default": "default"}.get(stem, stem)


@rule("FT517")
def template_guessed(config: Config) -> Findings:
    """What it does: finds a run without `template`: LLaMA-Factory derives one from the tokenizer.
    Why it matters: the parts are guessed from a rendered sample; a template with conditions is derived wrongly, and a
        tokenizer without template yields `empty`: no roles at all.
    Example:
        template: null
    Use instead:
        template: qwen3
    Applies to: LLaMA-Factory
    Source: llamafactory/data/template.py:630-636 (0.9.5) warns
    """
    if config.has("template") or config.stage == "pt" or config.form == "recipe":
        return
    wanted = catalog.template_for_model(
        config.engine, str(config.value("model_name_or_path")), config.versions.get(config.engine, "")
    )
    at = config.first("model_name_or_path")
    help = f"write `template: {wanted}`" if wanted else "write `template: name`"
    yield warning(
        at,
        "without `template` it is guessed from the tokenizer",
        help=help,
        fix=add(config, at, "template", wanted, safe=False) if wanted else None,
    )


@rule("FT519")
def reasoning_template_not_needed(config: Config) -> Findings:
    """What it does: finds reasoning templates for models without reasoning.
    Why it matters: a reasoning template inserts an empty thought before answers without one; such a model learns tokens
        that it never uses.
    Example:
        model_name_or_path: Qwen/Qwen3-4B-Instruct-2507
        template: qwen3
    Use instead:
        model_name_or_path: Qwen/Qwen3-4B-Instruct-2507
        template: qwen3_nothink
    Applies to: LLaMA-Factory
    Source: llamafactory/data/template.py:656 (0.9.5) warns of every one; constants.py lists which models take
        `_nothink`
    """
    given = str(config.value("template"))
    wanted = catalog.template_for_model(
        config.engine, str(config.value("model_name_or_path")), config.versions.get(config.engine, "")
    )
    if config.is_explicit("template") and wanted == f"{given}_nothink" and template_fact(config, "reasoning"):
        at = config.at("template")
        yield info(
            at,
            "a reasoning template for a model without reasoning",
            help=f"write `{wanted}`",
            fix=put(at, wanted, safe=False),
        )
