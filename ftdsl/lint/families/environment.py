"""Installed packages, and the file format of the configuration."""

from __future__ import annotations

from collections.abc import Iterator

from ftdsl import catalog
from ftdsl.lint.config import Config
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning


@rule("FT902")
def json_not_supported(config: Config) -> Findings:
    """What it does: finds a configuration in JSON.
    Why it matters: `llamafactory-cli train x.json` passes the path to a parser that expects text, and stops with a
        TypeError.
    Example:
        # with: form=json
        {"learning_rate": 1e-4}
    Use instead:
        learning_rate: 1e-4
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:97, `json.load(Path(…))` (0.9.5, run)
    """
    if config.form == "json" and config.settings:
        at = config.first("stage", "model_name_or_path")
        yield error(
            at,
            "LLaMA-Factory 0.9.5 cannot read configurations in JSON",
            help="rename it to .yaml: JSON is valid YAML",
        )


@rule("FT218", EVERY)
def torch_too_old(config: Config) -> Findings:
    """What it does: finds FSDP 2 with torch before 2.6.
    Why it matters: accelerate stops on every rank once the process group is initialised.
    Example:
        # with: torch=2.5.1
        bf16: true
        # file: accelerate.yaml
        {distributed_type: FSDP, num_processes: 2, fsdp_config: {fsdp_version: 2, fsdp_reshard_after_forward: true}}
    Use instead:
        # with: torch=2.6.0
        bf16: true
        # file: accelerate.yaml
        {distributed_type: FSDP, num_processes: 2, fsdp_config: {fsdp_version: 2, fsdp_reshard_after_forward: true}}
    Applies to: accelerate
    Source: accelerate/utils/dataclasses.py:1778, FSDP2_PYTORCH_VERSION (1.11.0)
    """
    if config.fsdp == 2 and () < config.version("torch") < (2, 6):
        beside = config.accelerate
        at = beside.at("fsdp_config.fsdp_version") if beside is not None else config.at("fsdp_config")
        yield error(
            at, f"FSDP 2 needs torch 2.6 or newer, not {config.versions['torch']}", help="upgrade torch, or use FSDP 1"
        )


TRACKERS = {
    name: (name.replace("_", "-"),)
    for name in (
        "wandb",
        "mlflow",
        "swanlab",
        "trackio",
        "codecarbon",
        "clearml",
        "neptune",
        "dvclive",
        "comet_ml",
        "dagshub",
    )
} | {"tensorboard": ("tensorboard", "tensorboardX")}
"""Tracker -> packages of which transformers needs one (transformers/integrations/integration_utils.py 5.6.0)."""


@rule("FT903", EVERY)
def dependency_missing(config: Config) -> Findings:
    """What it does: checks that the packages a parameter needs are installed, if the engine's environment is known.
    Why it matters: LLaMA-Factory checks most of them after loading torch; `plot_loss`, generated answers and trackers
        need packages that nothing else needs. A warning, since the run may be elsewhere; `ftc run` checks again.
    Example:
        # with: installed=llamafactory
        finetuning_type: full
        learning_rate: 1e-5
        optim: adamw_torch
        use_galore: true
        pure_bf16: true
        ---
        # with: installed=llamafactory
        plot_loss: true
        ---
        # with: installed=llamafactory
        report_to: tensorboard
        ---
        # with: installed=llamafactory
        optim: adamw_8bit
    Use instead:
        # with: installed=llamafactory
        learning_rate: 1e-4
    Applies to: LLaMA-Factory, transformers
    Source: llamafactory/hparams/parser.py:252-309, _check_extra_dependencies (0.9.5);
        transformers/integrations/integration_utils.py, get_reporting_integration_callbacks (5.6.0)
    """
    if config.installed is None:
        return
    for name, missing in _missing(config, config.installed):
        at = config.at(name)
        yield warning(
            at,
            f"`{at.word}` needs {' and '.join(missing)}, not installed in the engine's environment here",
            help=f"pip install {' '.join(missing)}",
        )


def _missing(config: Config, installed: frozenset[str]) -> Iterator[tuple[str, list[str]]]:
    """(parameter, packages) of those that are not installed."""
    for name, packages in catalog.facts("packages").items():
        missing = [package for package in packages if package not in installed]
        if missing and config.has(name) and config.value(name) not in (False, "false"):
            yield name, missing
    for tracker in config.items("report_to"):
        one_of = TRACKERS.get(tracker, ())
        if one_of and not installed & {*one_of, *(name.lower() for name in one_of)}:
            yield "report_to", [one_of[0]]
    optimizer = str(config.value("optim") or "")
    if ("bnb" in optimizer or "8bit" in optimizer) and "bitsandbytes" not in installed:
        yield "optim", ["bitsandbytes"]
