"""The inverse of answers that a TRL stage generates: sampling, vLLM, rewards, the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ftdsl.engines.shared.overlay import entries
from ftdsl.importers import models
from ftdsl.importers.draft import Note, StageDraft
from ftdsl.language.values import StageRef, Term

PROMPT = 1024
"""Tokens of a prompt that a recipe leaves room for, where a TRL configuration sets no limit."""
THINKS = r"(?s)^<think>(?!.*<think>)(.*?)</think>.*$"
"""The pattern of trl/rewards/format_rewards.py, think_format_reward."""
_MATHS = (
    "math_verify decides whether two formulas are equal; `exact` compares numbers, and else the text in `\\boxed{}`"
)


def generates(draft: StageDraft) -> bool:
    return draft.kind in ("grpo", "distill")


def answers(draft: StageDraft) -> None:
    """Sampling, and the window that holds prompt and answer. TRL does not limit prompts; a recipe leaves out longer ones."""
    if not generates(draft):
        return
    answer = draft.take("max_completion_length")
    draft.set("generate.max_new_tokens", answer)
    for ours, theirs in (
        ("temperature", "temperature"), ("top_p", "top_p"), ("top_k", "top_k"), ("repetition_penalty", "repetition_penalty"),
    ):  # fmt: skip
        draft.set(f"generate.{ours}", draft.take(theirs))
    if not isinstance(answer, int):
        draft.note("max_completion_length", "answers without a limit: write `generate { max_new_tokens = … }`")
        del draft.values["generate.max_new_tokens"]
        return
    window, prompt = draft.raw("vllm_max_model_length"), draft.raw("max_prompt_length")
    if isinstance(window, int):
        draft.set("max_len", window)
    elif isinstance(prompt, int):
        draft.set("max_len", prompt + answer)
        draft.reasons["vllm_max_model_length"] = "the window of prompt and answer, which a recipe sets"
        draft.notes.append(
            _prompts(draft, "max_prompt_length", f"rows with prompts above {prompt} tokens are left out")
        )
    else:
        remark = "prompt and answer: rows with longer prompts are left out, which TRL would train on"
        draft.set("max_len", PROMPT + answer, remark)
        draft.reasons["vllm_max_model_length"] = "the window of prompt and answer, which a recipe sets"


def _prompts(draft: StageDraft, name: str, text: str) -> Note:
    at = draft.config.at(name)
    return Note(at.word, text, at.key or at.span, carried=True)


def backend(draft: StageDraft) -> None:
    if not generates(draft):
        return
    names = {"vllm_gpu_memory_utilization": "gpu_memory", "vllm_tensor_parallel_size": "tensor"}
    own = ("vllm_mode", "vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_max_model_length", *names)
    if not draft.on("use_vllm"):
        for name in own:
            if draft.given(name) and name != "vllm_max_model_length":
                draft.note(name, "has no effect without `use_vllm`")
        return
    mode = str(draft.take("vllm_mode"))
    draft.used.update(own)
    if mode == "server":
        host, port = draft.config.value("vllm_server_host"), draft.config.value("vllm_server_port")
        host = "127.0.0.1" if host == "0.0.0.0" else host
        url = draft.raw("vllm_server_base_url") or f"http://{host}:{port}"
        draft.set("backend", Term("vllm", {"mode": Term("server"), "url": str(url)}))
        draft.reasons |= dict.fromkeys(own[1:4], "the address of the server, as a URL")
        return
    options = {ours: value for theirs, ours in names.items() if (value := draft.raw(theirs)) is not None}
    draft.set("backend", Term("vllm", {"mode": Term("colocate"), **options}))


def scale(draft: StageDraft) -> None:
    """`true` and `false` are older names of `group` and `none` (trl/trainer/grpo_config.py)."""
    if draft.kind == "grpo" and draft.given("scale_rewards"):
        value = draft.raw("scale_rewards")
        draft.set("scale", Term({"true": "group", "false": "none"}.get(str(value).lower(), str(value))))


def rewards(draft: StageDraft) -> None:
    """`reward_funcs` by name, then by path; the reward model comes first (trl/scripts/grpo.py)."""
    if draft.kind != "grpo":
        return
    given = draft.raw("reward_funcs")
    names = given if isinstance(given, list) else [given] if given else []
    weights = draft.raw("reward_weights")
    model = draft.raw("reward_model_name_or_path")
    terms: list[Term | None] = []
    if model is not None:
        where = models.stage_at(draft, str(model)) or draft.paths.model(str(model))
        terms.append(Term("judge", {"model": where}))
    terms += [_reward(draft, str(name)) for name in names]
    if isinstance(weights, list) and len(weights) == len(terms):
        terms = [term and Term(term.name, {**term.options, "weight": float(weight)})
                 for term, weight in zip(terms, weights, strict=True)]  # fmt: skip
    elif weights is not None:
        draft.note("reward_weights", f"{len(terms)} rewards need as many weights")
    if known_terms := [term for term in terms if term is not None]:
        draft.set("rewards", known_terms)


def _reward(draft: StageDraft, name: str) -> Term | None:
    if name in _KNOWN:
        term, why = _KNOWN[name]()
        if why:
            draft.notes.append(_named(draft, name, why))
            draft.reasons["reward_funcs"] = why
        return term
    module, dot, function = name.rpartition(".")
    if dot:
        path = f"{module.replace('.', '/')}.py"
        return Term("python", {"function": f"{draft.paths.seen(path)}:{function}"})
    draft.notes.append(
        _named(draft, name, 'is no reward of TRL: write the file and the function, `python("rewards.py:score")`')
    )
    draft.reasons["reward_funcs"] = f"`{name}` is no reward of TRL"
    return None


def _named(draft: StageDraft, name: str, why: str) -> Note:
    at = draft.config.at("reward_funcs")
    return Note(f"{at.word}: {name}", why, at.key or at.span)


_KNOWN: Mapping[str, Callable[[], tuple[Term, str]]] = {
    "accuracy_reward": lambda: (Term("exact", {"answer": "solution", "take": Term("boxed")}), _MATHS),
    "reasoning_accuracy_reward": lambda: (Term("exact", {"answer": "solution", "take": Term("boxed")}), _MATHS),
    "think_format_reward": lambda: (Term("regex", {"pattern": THINKS}), ""),
    "get_soft_overlong_punishment": lambda: (
        Term("length", {"max": 1024}), "TRL takes 1 off from 1024 to 1280 tokens; `length` falls from 1 to 0 at twice as many",
    ),
}  # fmt: skip


def teacher(draft: StageDraft) -> None:
    if draft.kind != "distill":
        return
    where = draft.raw("teacher_model_name_or_path")
    revision = draft.raw("teacher_model_revision")
    if where is not None:
        options = {"revision": revision} if revision not in (None, "main") else {}
        made = models.stage_at(draft, str(where))
        draft.set("teacher", made if isinstance(made, StageRef) else draft.paths.model(str(where), **options))
    draft.set("divergence", draft.take("beta"))


def losses(draft: StageDraft) -> None:
    """`[sigmoid, sft]` with weights is DPO with a share of SFT; other mixtures have no key."""
    if draft.kind != "dpo":
        _loss(draft, draft.raw("loss_type"))
        return
    given, weights = draft.raw("loss_type"), draft.raw("loss_weights")
    names = given if isinstance(given, list) else [given] if given else []
    if len(names) == 2 and names[1] == "sft" and isinstance(weights, list) and len(weights) == 2 and weights[0]:
        draft.set("sft_weight", weights[1] / weights[0])
        if weights[0] != 1:
            draft.note(
                "loss_weights", f"only the proportion counts here: 1 and {weights[1] / weights[0]:g}", carried=True
            )
    elif len(names) > 1:
        draft.note("loss_type", f"a sum of {', '.join(map(str, names))} cannot be said")
    elif weights is not None:
        draft.note("loss_weights", "has no effect on one loss")
    if names:
        _loss(draft, names[0])


def _loss(draft: StageDraft, name: Any) -> None:
    """The member of `loss` that the overlay maps to a loss of TRL."""
    entry = dict(entries(draft.engine, draft.kind)).get("loss", {})
    members = {written: member for member, written in entry.get("map", {}).items()}
    if name is None or name == draft.default("loss_type"):
        return
    if isinstance(name, str) and name in members:
        draft.set("loss", Term(members[name]))
    else:
        known = ", ".join(f"`{written}`" for written in members) or "its default"
        draft.note("loss_type", f"a recipe has no `{name}` for this stage: {known}")
