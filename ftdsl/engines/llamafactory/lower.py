"""Planned stages to jobs: YAML, dataset_info.json, ds_config.json, and the commands that use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.engines.jobs import Command, Document, Gate, Job
from ftdsl.engines.llamafactory import parallel, rules, words
from ftdsl.engines.llamafactory.datasets import Datasets, passes_through, training
from ftdsl.engines.llamafactory.parallel import PYTHON
from ftdsl.engines.llamafactory.places import Places
from ftdsl.engines.llamafactory.preparing import exported, lower_data, lower_shell
from ftdsl.engines.llamafactory.scratch import lower_scratch, needed_by, scratch_folders
from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Secret, StageRef, Term
from ftdsl.plan.plan import Plan
from ftdsl.session import Session

STAGES = {"pretrain": "pt", "sft": "sft", "reward": "rm", "dpo": "dpo", "kto": "kto"}
ENGINE_VERSION = catalog.LLAMAFACTORY


def lower(plan: Plan, session: Session) -> tuple[Job, ...]:
    """All jobs in an order in which each comes after those it needs."""
    _check_engine(plan, session)
    places = Places(plan, scratch_folders(plan))
    jobs = lower_scratch(plan, places, session)
    for planned in plan.stages:
        job = _lower_stage(Work(planned, plan, places, session))
        if job is not None:
            jobs.append(job)
    return tuple(_ordered(jobs))


def _check_engine(plan: Plan, session: Session) -> None:
    version = plan.recipe.engine.options.get("version")
    if version is not None and version not in catalog.versions("llamafactory"):
        known = ", ".join(catalog.versions("llamafactory"))
        text = f"the parameters of LLaMA-Factory {version} are not known"
        session.sink.error("FT901", text, plan.recipe.span, help=f"known: {known}")


def _lower_stage(work: Work) -> Job | None:
    kind = work.stage.kind
    if kind == "data":
        return None if passes_through(work.stage.settings) else lower_data(work)
    if kind == "shell":
        return lower_shell(work)
    if kind in STAGES:
        return _train(work)
    if kind == "eval":
        return _score(work)
    if kind == "merge":
        return _merge(work)
    work.session.sink.error("FT012", f"`{kind}` stages cannot be compiled for LLaMA-Factory yet", work.stage.span)
    return None


# --- training


def _train(work: Work) -> Job:
    words.refuse_unlowered(work, rules.names(rules.TRAINING))
    parallel.check(work)
    kind = work.stage.kind
    datasets = Datasets(work)
    params: dict[str, Any] = {"stage": STAGES[kind], "do_train": True}
    for rule in rules.TRAINING:
        params |= rule(work)
    params |= words.params(work, kind)
    params |= training(work, datasets)
    params = {"overwrite_output_dir": False, **params, "output_dir": _result(work)}
    config = parallel.ds_config(work)
    if config is not None:
        params["deepspeed"] = f"{work.folder}/ds_config.json"
    documents = [_yaml(work, "train", params), _dataset_info(work, datasets)]
    if config is not None:
        documents.append(Document(f"{work.folder}/ds_config.json", "json", config))
    method = work.planned.method
    result = "model" if method in ("full", "freeze") else "adapter"
    flags = ("--kind", "train", "--result", result, "--nan", work.name("guard.nan") or "stop")
    first = Command(
        (PYTHON, "runtime/engine.py", "fresh", _result(work), "--stage", work.folder),
        comment="goes on from this stage's own checkpoints; what another run left there is set aside",
    )
    commands = [first, *parallel.launch(work, [documents[0].path], flags)]
    return _job(work, documents, commands, datasets.inputs, result, _title(work, f"{kind} {method}"))


def _result(work: Work) -> str:
    return work.places.result(StageRef(work.stage.name, "", work.stage.run))


def _title(work: Work, what: str) -> str:
    if work.stage.parents:
        return f"{what} from {', '.join(work.stage.parents)}"
    start = work.stage.start
    base = start.base if start else None
    if isinstance(base, StageRef):
        return f"{what} from {base.stage}"
    options = base.options if isinstance(base, Term) else {}
    place = options.get("id") or options.get("path") or options.get("architecture")
    name = place.name if isinstance(place, Term) else place
    return f"{what} of {name}" if name else what


# --- scoring


def _score(work: Work) -> Job:
    words.refuse_unlowered(work, rules.names(rules.SCORING))
    parallel.check(work)
    metrics = {words.plain(metric) for metric in work.get("metrics") or ()}
    datasets = Datasets(work)
    names, _ = datasets.names("data")
    if not names:
        work.refuse("data", f"`{work.stage.name}` has no rows to answer", "write `data = NAME.eval`")
    common: dict[str, Any] = {"stage": _stage_of_rows(datasets)}
    for rule in rules.SCORING:
        common |= rule(work)
    common |= words.params(work, "eval", only=_EVAL_WORDS)
    common |= {"eval_dataset": ",".join(names), "dataset_dir": work.folder}
    common |= {"per_device_eval_batch_size": work.get("batch"), "report_to": "none"}
    documents = [_dataset_info(work, datasets)]
    configs: list[Document] = []
    if metrics & {"loss", "accuracy"} or not metrics:
        params = {**common, "do_eval": True, "output_dir": f"{work.folder}/loss"}
        if "accuracy" in metrics:
            params["compute_accuracy"] = True
        configs.append(_yaml(work, "eval", params))
    if metrics & {"rouge", "bleu"}:
        params = {**common, "do_predict": True, "predict_with_generate": True, **rules.generation(work)}
        params["output_dir"] = f"{work.folder}/predict"
        configs.append(_yaml(work, "predict", params))
    documents += configs
    commands = parallel.launch(work, [document.path for document in configs], ("--kind", "eval"))
    gates = tuple(_gates(work))
    if gates:
        commands.append(_gate_command(work, documents, gates))
    return _job(work, documents, commands, datasets.inputs, "metrics", _title(work, "eval"), gates)


_EVAL_WORDS = frozenset(
    "template system tools thinking keep_thinking precision attention seed limit max_len quantize.bits quantize.scheme "
    "quantize.double tokenizer.add tokenizer.resize tokenizer.split_special media.image_max_pixels media.image_min_pixels "
    "media.video_max_pixels media.video_min_pixels media.video_fps media.video_max_frames media.audio_rate "
    "media.audio_in_video media.pan_and_scan media.crop_to_patches loader.workers loader.tokenize".split()
)


def _stage_of_rows(datasets: Datasets) -> str:
    """Plain text is scored as in pretraining; answers as in sft."""
    columns = [entry.get("columns", {}) for entry in datasets.entries.values()]
    return "pt" if columns and all(set(c) == {"prompt"} for c in columns) else "sft"


def _gates(work: Work) -> Iterator[Gate]:
    for metric, bound in work.stage.settings.inside("gate").items():
        if not isinstance(bound, Term):
            continue
        options = bound.options
        if bound.name == "no_worse":
            than = options.get("than")
            other = work.plan.stage(than.key) if than else None
            if other is None or other.stage.kind != "eval":
                work.refuse(f"gate.{metric}", "`no_worse` compares with an `eval` stage", "write `no_worse(NAME)`")
                continue
            level = options.get("by")
            slack = 0.0 if level is None else _level(metric, level)
            yield Gate(metric, "no_worse", slack, other.folder)
        else:
            yield Gate(metric, bound.name, _level(metric, options["value"]))


def _level(metric: str, level: Any) -> float:
    """rouge and bleu are counted in percent by the engine; a share of them is meant as one."""
    number = float(getattr(level, "number", level))
    share = getattr(level, "unit", "") == "share"
    return number * 100 if share and metric.startswith(("rouge", "bleu")) else number


def _gate_command(work: Work, documents: list[Document], gates: tuple[Gate, ...]) -> Command:
    spec = {
        "stage": work.folder,
        "where": work.plan.recipe.where(work.stage.spans.get("gate", work.stage.span)),
        "gates": [{"metric": g.metric, "op": g.op, "bound": round(g.bound, 12), "than": g.than or None} for g in gates],
    }
    documents.append(Document(f"{work.folder}/gate.json", "json", spec))
    report: tuple[str, ...] = ("--report",) if work.plan.recipe.smoke else ()
    said = "of a smoke run: reported only" if report else "exit status 3: the gate refuses"
    return Command((PYTHON, "runtime/gate.py", f"{work.folder}/gate.json", *report), comment=said)


# --- merging


def _merge(work: Work) -> Job:
    words.refuse_unlowered(work, rules.names(rules.MERGING))
    params: dict[str, Any] = {}
    for rule in rules.MERGING:
        params |= rule(work)
    params |= words.params(work, "merge", only=_MERGE_WORDS)
    params |= {"export_dir": _result(work), "export_device": "cpu"}
    document = _yaml(work, "export", params)
    command = Command((PYTHON, "runtime/engine.py", "export", document.path, "--stage", work.folder))
    return _job(work, [document], [command], [], "model", _title(work, "merge"))


_MERGE_WORDS = frozenset(
    "template system tools thinking keep_thinking dtype shards legacy tokenizer.add tokenizer.resize".split()
)


# --- what all of them share


def _job(
    work: Work,
    documents: list[Document],
    commands: list[Command],
    inputs: list[str],
    result: Any,
    title: str,
    gates: tuple[Gate, ...] = (),
) -> Job:
    environment: Mapping[str, Any] = {**parallel.environment(work), **words.environment(work)}
    runtime = ("engine", "gate") if gates else ("engine",)
    world = work.planned.world
    stage = work.stage
    batch = (str(work.planned.batch),) if work.planned.batch else ()
    return Job(
        key=stage.key,
        folder=work.folder,
        kind=stage.kind,
        title=title,
        needs=needed_by(work),
        documents=tuple(documents),
        commands=tuple(commands),
        env={name: exported(value) for name, value in environment.items()},
        runtime=runtime,
        inputs=tuple(dict.fromkeys(inputs)),
        result=_result(work),
        result_kind=result,
        processes=world.size,
        accelerators=world.size if world.gpu else 0,
        gates=gates,
        packages=tuple(dict.fromkeys(name for document in documents for name in _packages(document))),
        where=work.where,
        header=batch,
    )


_PACKAGES = {
    "deepspeed": ("deepspeed",),
    "predict_with_generate": ("jieba", "nltk", "rouge-chinese"),
    "quantization_bit": ("bitsandbytes",),
    "enable_liger_kernel": ("liger-kernel",),
    "use_unsloth": ("unsloth",),
    "mixture_of_depths": ("mixture-of-depth",),
    "use_galore": ("galore-torch",),
    "use_apollo": ("apollo-torch",),
    "use_badam": ("badam",),
    "use_adam_mini": ("adam-mini",),
    "use_swanlab": ("swanlab",),
    "plot_loss": ("matplotlib",),
}
"""What the engine checks for at start (llamafactory/hparams/parser.py), by the parameter that asks for it."""


def _packages(document: Document) -> Iterator[str]:
    if document.kind != "yaml":
        return
    for name, packages in _PACKAGES.items():
        if document.data.get(name):
            yield from packages
    if "bnb" in str(document.data.get("optim")) or "8bit" in str(document.data.get("optim")):
        yield "bitsandbytes"
    trackers = document.data.get("report_to")
    for tracker in trackers if isinstance(trackers, list) else [trackers]:
        if tracker in ("wandb", "tensorboard", "mlflow", "swanlab"):
            yield tracker


def _dataset_info(work: Work, datasets: Datasets) -> Document:
    return Document(f"{work.folder}/dataset_info.json", "json", dict(datasets.entries))


_SECTIONS = {
    "model_args": "model",
    "finetuning_args": "method",
    "data_args": "data",
    "generating_args": "generation",
    "training_args": "training",
    "training_args_seq2seq": "training",
}


def _yaml(work: Work, name: str, params: dict[str, Any]) -> Document:
    """Parameters in the engine's own groups, each group under its title; passthrough as it stands, at the end."""
    schema = catalog.engine_schema("llamafactory", ENGINE_VERSION)
    rest = work.stage.settings.inside("llamafactory")
    params = {key: value for key, value in params.items() if value is not None}
    for key in [key for key, value in (params | rest).items() if isinstance(value, Secret)]:
        work.refuse(key, f"a secret cannot be written into `{key}`", "put it into `env { }`")
    groups: dict[str, dict[str, Any]] = {title: {} for title in dict.fromkeys(_SECTIONS.values())}
    for key, value in params.items():
        origin = str(schema.get(key, {}).get("origin", "")).rpartition("/")[2].removesuffix(".py")
        groups[_SECTIONS.get(origin, "training")][key] = words.plain(value)
    groups["passthrough"] = {key: words.plain(value) for key, value in rest.items()}
    titles = {next(iter(group)): title for title, group in groups.items() if group}
    flat = {key: value for group in groups.values() for key, value in group.items()}
    return Document(f"{work.folder}/{name}.yaml", "yaml", flat, _header(work), titles)


def _header(work: Work) -> tuple[str, ...]:
    lines = [f"{work.stage.key} ({work.where})", *work.stage.doc.splitlines()]
    if work.planned.batch:
        lines.append(str(work.planned.batch))
    return tuple(lines)


def _ordered(jobs: list[Job]) -> Iterator[Job]:
    """Each after those it needs, else in the order given."""
    left = {job.key: job for job in jobs}
    while left:
        ready = next((job for job in left.values() if not any(need in left for need in job.needs)), None)
        if ready is None:
            raise AssertionError("the resolver lets no cycle through")
        yield left.pop(ready.key)
