"""Installed packages, and the file format of the configuration."""

from __future__ import annotations

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


@rule("FT903")
def dependency_missing(config: Config) -> Findings:
    """What it does: checks that the packages a parameter needs are installed, if the engine's environment is known.
    Why it matters: LLaMA-Factory checks most of them after loading torch; `plot_loss` and generated answers need
        packages that nothing else needs. A warning, since the run may be elsewhere; `ftc run` checks again.
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
    Use instead:
        # with: installed=llamafactory
        learning_rate: 1e-4
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:252-309, _check_extra_dependencies (0.9.5)
    """
    if config.installed is None:
        return
    for name, packages in catalog.facts("packages").items():
        if not config.has(name) or config.value(name) in (False, "false"):
            continue
        missing = [package for package in packages if package not in config.installed]
        if missing:
            at = config.at(name)
            yield warning(
                at,
                f"`{at.word}` needs {' and '.join(missing)}, not installed in the engine's environment here",
                help=f"pip install {' '.join(missing)}",
            )
