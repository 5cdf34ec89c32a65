"""Chat templates against the model they are for."""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.lint.config import Config
from ftdsl.lint.edits import add, put
from ftdsl.lint.rule import Findings, info, rule, warning


def template_fact(config: Config, name: str) -> bool:
    """What the engine's own list says of the template: `reasoning`, `efficient_eos`."""
    known = catalog.schema(config.engine, config.versions.get(config.engine, ""), "templates")
    return bool(known.get(str(config.value("template")), {}).get(name))


@rule("FT503")
def template_of_another_family(config: Config) -> Findings:
    """What it does: holds the template against the family of the model, by LLaMA-Factory's own list.
    Why it matters: a model that learnt to end its turns with one token is trained to end them with another: the
        loss looks fine, and at inference answers never stop.
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
        f"`{given}` is not the template of this model",
        label=f"LLaMA-Factory lists `{wanted}`",
        help=f"write `{wanted}`",
        fix=put(at, wanted, safe=False),
    )


def family(template: str) -> str:
    """Templates that end their turns alike: variants with thinking, tools or pictures are of one family."""
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
    """What it does: says that without `template` LLaMA-Factory takes the tokenizer's own apart.
    Why it matters: the parts are guessed from how it renders a probe; a template with conditions comes out
        wrong, and a tokenizer without one gives `empty`: no roles at all.
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
        "no `template`: it is guessed from the tokenizer",
        help=help,
        fix=add(config, at, "template", wanted, safe=False) if wanted else None,
    )


@rule("FT519")
def thinking_template(config: Config) -> Findings:
    """What it does: points at reasoning templates over models that do not reason.
    Why it matters: a reasoning template puts an empty thought before answers that have none; a model without
        thoughts learns tokens that mean nothing to it.
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
            "this model does not reason, and the template makes room for thoughts",
            help=f"write `{wanted}`",
            fix=put(at, wanted, safe=False),
        )
