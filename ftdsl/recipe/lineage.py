"""Lineage: the model that each stage starts from and produces, and the errors of hand-offs between stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.diagnostics import Sink
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.keys import Path
from ftdsl.language.resolve.resolve import ResolvedStage
from ftdsl.language.values import Origin, StageRef, Term, Value
from ftdsl.recipe.recipe import Lineage
from ftdsl.record import frozen, mutable
from ftdsl.source import Span

SCORING = ("eval", "merge", "quantize")
HANDED = ("template", "system", "tools", "thinking", "keep_thinking", "tokenizer", "media")
"""Keys that belong to a model and are inherited with it; with an adapter also `quantize` (how its base is loaded)."""

OTHER_MODELS = (("teacher",), ("reference",), ("against",))
"""Keys that name a model besides the one that a stage starts from."""


@frozen
class Linked:
    """A stage with its lineage, and its values with the inherited ones."""

    stage: ResolvedStage
    values: Mapping[Path, Value]
    start: Lineage | None = None
    new_adapter: bool = False
    result: Lineage | None = None
    needs: tuple[str, ...] = ()
    method: str = ""

    @property
    def sound(self) -> bool:
        """Whether the model it starts from is known, if it needs one."""
        return self.start is not None or self.stage.declared.kind not in (*TRAINING, *SCORING)


@mutable
class Linker:
    """Links stages in order; each comes after those it refers to."""

    sink: Sink
    done: dict[str, Linked] = field(default_factory=dict)

    def link(self, stage: ResolvedStage) -> Linked:
        self._check_refs(stage)
        start = self._start(stage)
        values = dict(stage.values)
        parent = self._giver(stage)
        if parent and start:
            self._hand_on(stage, parent, start, values)
        method = next((m for m in sorted(keys.methods()) if (m,) in stage.blocks), "")
        needs = tuple(dict.fromkeys(_key(ref) for ref in (*stage.parents, *stage.refs)))
        linked = Linked(
            stage, values, start, self._stacks(method, start), self._result(stage, start, method), needs, method
        )
        self._check_method(linked)
        self.done[stage.key] = linked
        return linked

    # --- the model a stage starts from

    def _start(self, stage: ResolvedStage) -> Lineage | None:
        kind = stage.declared.kind
        model = stage.values.get(("model",))
        if kind not in (*TRAINING, *SCORING):
            return None
        if model and stage.parents:
            is_stage_key = model.origin.kind != "file"
            text = f"`{stage.name}` has a `model` and starts `from` a stage"
            label = "" if is_stage_key else "this sets the model of all stages"
            help = "remove one of them" if is_stage_key else "set it in the stages that start from it"
            self.sink.error("FT622", text, model.span, label=label, help=help)
        if model:
            return self._lineage(model.data, model.span)
        if ("method",) in stage.values and kind == "merge":
            return self._merged_models(stage)
        if not stage.parents:
            if ("model",) in stage.unknown or stage.declared.block.parents:
                return None  # reported at its own span
            if not any(value.origin.kind != "default" for value in stage.values.values()) and stage.refs:
                return None
            text = f"`{stage.name}` has no model to start from"
            help = 'write `model = hf("org/name")`, or `from` a stage'
            self.sink.error("FT011", text, stage.declared.block.header, help=help)
            return None
        return self._from_parents(stage)

    def _from_parents(self, stage: ResolvedStage) -> Lineage | None:
        spans = [parent.span for parent in stage.declared.block.parents]
        lineages = [self._lineage(ref, span) for ref, span in zip(stage.parents, spans, strict=False)]
        resolved = [lineage for lineage in lineages if lineage]
        if len(resolved) < len(lineages) or not resolved:
            return None
        if len(resolved) > 1 and stage.declared.kind != "merge":
            text = "only a `merge` stage can start from several stages"
            self.sink.error("FT622", text, stage.declared.block.header)
            return None
        for lineage, span in zip(resolved[1:], spans[1:], strict=False):
            if lineage.base != resolved[0].base:
                text = "cannot merge adapters of different base models"
                self.sink.error("FT622", text, span, label=f"its base is {_describe(lineage.base)}")
                return None
        return Lineage(resolved[0].base, tuple(adapter for lineage in resolved for adapter in lineage.adapters))

    def _merged_models(self, stage: ResolvedStage) -> Lineage | None:
        """A merge of whole models starts from the first; a merge of adapters from their base, with all of them."""
        listed = stage.values.get(("models",))
        spans = [parent.span for parent in stage.declared.block.parents]
        models: list[tuple[Any, Span | None]] = list(zip(stage.parents, spans, strict=False))
        if listed is not None:
            models += [(item, listed.span) for item in listed.data]
        base = stage.values.get(("base",))
        every = [*models, *([(base.data, base.span)] if base else [])]
        lineages = [self._lineage(item, span) for item, span in every]
        if models and all(lineage is None or lineage.adapters for lineage in lineages[: len(models)]):
            return self._merged_adapters(lineages[: len(models)], [span for _, span in models])
        for lineage, (_, span) in zip(lineages, every, strict=True):
            if lineage is not None and lineage.adapters:
                text = "a `method` merges whole models or adapters of one base, and this is an adapter among models"
                self.sink.error(
                    "FT622", text, span, help="add a `merge` stage that merges it into its base, and name that"
                )
                return None
        if not models and ("models",) in stage.unknown:
            return None  # reported at its own span
        if not models:
            help = "write `merge NAME from first, second`, or `models = [...]`"
            self.sink.error("FT011", f"`{stage.name}` has no models to merge", stage.declared.block.header, help=help)
            return None
        return lineages[0] if all(lineages) else None

    def _merged_adapters(self, lineages: list[Lineage | None], spans: list[Span | None]) -> Lineage | None:
        """The common base, the adapters below all of them, and then each one's own."""
        resolved = [lineage for lineage in lineages if lineage]
        if len(resolved) < len(lineages):
            return None
        first = resolved[0]
        for lineage, span in zip(resolved[1:], spans[1:], strict=True):
            if (lineage.base, lineage.adapters[:-1]) != (first.base, first.adapters[:-1]):
                text = "cannot merge adapters of different base models"
                label = (
                    f"its base is {_describe(lineage.base)}" if lineage.base != first.base else "others lie below it"
                )
                self.sink.error("FT622", text, span, label=label)
                return None
        return Lineage(first.base, (*first.adapters[:-1], *(lineage.adapters[-1] for lineage in resolved)))

    def _lineage(self, data: Any, span: Span | None) -> Lineage | None:
        if isinstance(data, StageRef):
            return self._of_stage(data, span)
        if isinstance(data, Term) and data.name == "adapter":
            return self._of_adapter(data, span)
        if isinstance(data, Term) and data.name == "best":
            return self._of_best(data, span)
        return Lineage(data)

    def _of_best(self, data: Term, span: Span | None) -> Lineage | None:
        """The best of several runs, selected after they have run: they must start from the same model."""
        refs: tuple[StageRef, ...] = data.options.get("stage", ())
        lineages = [self._of_stage(ref, span) for ref in refs]
        resolved = [lineage for lineage in lineages if lineage]
        if not resolved or len(resolved) < len(lineages):
            return None
        first = resolved[0]
        if not first.adapters:
            return Lineage(data)
        if any((lineage.base, lineage.adapters[:-1]) != (first.base, first.adapters[:-1]) for lineage in resolved):
            text = f"the runs of `{refs[0].stage}` start from different models, so the best one's base is unknown"
            self.sink.error(
                "FT602", text, span, help="merge each run into its base, and take `best()` of the merged models"
            )
            return None
        return Lineage(first.base, (*first.adapters[:-1], data))

    def _of_adapter(self, data: Term, span: Span | None) -> Lineage | None:
        base = data.options.get("base")
        if base is None:
            self.sink.error("FT010", "`adapter()` needs its `base` model", span, help='write `base = hf("…")`')
            return None
        below = self._lineage(base, span)
        return Lineage(below.base, (*below.adapters, data)) if below else None

    def _of_stage(self, ref: StageRef, span: Span | None) -> Lineage | None:
        linked = self.done.get(_key(ref))
        if linked is None or ref.part:
            return Lineage(ref) if ref.part else None
        kind = linked.stage.declared.kind
        if linked.result is None:
            if kind not in TRAINING + SCORING or kind == "eval":
                gives = {"data": "data", "eval": "metrics", "shell": "files"}.get(kind, "no model")
                help = {"data": f"write `data = {ref.stage}`", "shell": f"write `model = file({ref.stage}.path)`"}.get(
                    kind, f"start from the model that `{ref.stage}` evaluates, and write `after = {ref.stage}`"
                )
                self.sink.error("FT622", f"`{ref.stage}` produces {gives}, not a model", span, help=help)
            elif kind == "quantize" and linked.start is not None:
                text = f"`{ref.stage}` writes a GGUF file, which is served, and neither trained nor scored"
                self.sink.error("FT622", text, span, help=f"start from the model that `{ref.stage}` starts from")
            return None
        return linked.result

    # --- inheritance and results

    def _giver(self, stage: ResolvedStage) -> Linked | None:
        model = stage.values.get(("model",))
        ref = stage.parents[0] if stage.parents else model.data if model else None
        if isinstance(ref, Term) and ref.name == "adapter" and isinstance(ref.options.get("base"), StageRef):
            ref = ref.options["base"]
        return self.done.get(_key(ref)) if isinstance(ref, StageRef) and not ref.part else None

    def _hand_on(self, stage: ResolvedStage, parent: Linked, start: Lineage, values: dict[Path, Value]) -> None:
        """Inherit the parent's values of the model's keys; the stage's own values win."""
        handed = (*HANDED, "quantize") if start.adapters else HANDED
        for path, value in parent.values.items():
            if path[0] not in handed or keys.find(stage.declared.kind, path) is None:
                continue
            if path[:1] in stage.reset_paths or path in stage.reset_paths:
                continue
            if path not in values:
                origin = Origin("from", parent.stage.key, str(value.origin))
                values[path] = Value(value.data, value.span, origin)
            elif path == ("template",) and values[path].data != value.data:
                text = f"`{stage.name}` uses another template than `{parent.stage.name}`, from which it starts"
                self.sink.error("FT504", text, values[path].span, label=f"`{parent.stage.name}` uses `{value.data}`")

    def _stacks(self, method: str, start: Lineage | None) -> bool:
        return bool(method not in ("", "full", "freeze") and start and start.adapters)

    def _result(self, stage: ResolvedStage, start: Lineage | None, method: str) -> Lineage | None:
        kind = stage.declared.kind
        own_ref = StageRef(stage.name, "", stage.run)
        scheme = stage.values.get(("scheme",))
        if kind == "quantize" and scheme and getattr(scheme.data, "name", "") == "gguf":
            return None
        if kind in ("merge", "quantize"):
            return Lineage(own_ref)
        if kind not in TRAINING or start is None:
            return None
        if method in ("full", "freeze"):
            return Lineage(own_ref)
        if method or not start.adapters:
            return Lineage(start.base, (*start.adapters, own_ref))
        return Lineage(start.base, (*start.adapters[:-1], own_ref))

    # --- errors

    def _check_method(self, linked: Linked) -> None:
        stage, start = linked.stage, linked.start
        if start is None:
            return
        kind = stage.declared.kind
        if kind == "quantize" and start.adapters:
            text = "cannot quantise an adapter"
            self.sink.error("FT622", text, stage.declared.block.header, help="add a `merge` stage before it")
        self._check_quantised(linked, start)
        self._check_reward_parent(linked)

    def _check_quantised(self, linked: Linked, start: Lineage) -> None:
        """Weights that a stage has quantised are quantised once, and not trained themselves."""
        base = start.base
        if not isinstance(base, StageRef) or self.done[_key(base)].stage.declared.kind != "quantize":
            return
        header, kind = linked.stage.declared.block.header, linked.stage.declared.kind
        if kind == "quantize":
            help = f"quantise the model that `{base.stage}` starts from"
            self.sink.error("FT622", f"`{base.stage}` is quantised already", header, help=help)
        elif kind in TRAINING and linked.method in ("full", "freeze"):
            text = f"`{base.stage}` is quantised, and `{linked.method}` trains the weights themselves"
            help = f"write `lora {{ }}`, or start from the model that `{base.stage}` starts from"
            self.sink.error("FT622", text, header, help=help)

    def _check_reward_parent(self, linked: Linked) -> None:
        for ref, node in zip(linked.stage.parents, linked.stage.declared.block.parents, strict=False):
            parent = self.done.get(_key(ref))
            if parent and parent.stage.declared.kind == "reward" and linked.stage.declared.kind in TRAINING:
                text = f"`{ref.stage}` is a reward model, which scores answers and cannot generate them"
                help = (
                    f"in a `ppo` stage write `reward = {ref.stage}`, in a `grpo` stage `rewards = [judge({ref.stage})]`"
                )
                self.sink.error("FT622", text, node.span, help=help)

    def _check_refs(self, stage: ResolvedStage) -> None:
        """Check that data comes from data stages (or their held-out splits), and a reward from a reward stage."""
        for path, value in stage.values.items():
            if path[-1] in ("data", "source", "calibrate") or path[0] == "holdout":
                for item in value.data if isinstance(value.data, list) else [value.data]:
                    if isinstance(item, StageRef):
                        self._check_data(item, value.span)
            for ref in _judges(path, value.data):
                reward_stage = self.done.get(_key(ref))
                if reward_stage and reward_stage.stage.declared.kind != "reward":
                    self.sink.error("FT622", f"`{ref.stage}` is not a `reward` stage", value.span)
            if path in OTHER_MODELS and isinstance(value.data, StageRef) and not value.data.part:
                self._of_stage(value.data, value.span)

    def _check_data(self, ref: StageRef, span: Span | None) -> None:
        data_stage = self.done.get(_key(ref))
        if data_stage is None:
            return
        if data_stage.stage.declared.kind != "data":
            self.sink.error(
                "FT622", f"`{ref.stage}` produces no data", span, help="data comes from a `data` stage or `file(…)`"
            )
            return
        if ref.part not in ("", "train", "eval", "test"):
            self.sink.error("FT040", f"data has no part `{ref.part}`", span, help="parts: train, eval, test")
        elif ref.part in ("eval", "test") and ("holdout", ref.part) not in data_stage.values:
            text = f"`{ref.stage}` has no `{ref.part}` split"
            help = f"write `holdout {{ {ref.part} = 5% }}` in `data {ref.stage}`"
            self.sink.error("FT622", text, span, help=help)


def _judges(path: Path, data: Any) -> list[StageRef]:
    """The stages that score answers: `reward = judge`, `rewards = [judge(it)]`."""
    if path == ("reward",):
        return [data] if isinstance(data, StageRef) else []
    if path != ("rewards",) or not isinstance(data, list):
        return []
    models = (item.options.get("model") for item in data if isinstance(item, Term) and item.name == "judge")
    return [model for model in models if isinstance(model, StageRef)]


def _key(ref: Any) -> str:
    return ref.key if isinstance(ref, StageRef) else ""


def _describe(model: Any) -> str:
    if isinstance(model, StageRef):
        return f"the stage `{model.stage}`"
    return f"`{model.options.get('id') or model.options.get('path') or model.name}`"
