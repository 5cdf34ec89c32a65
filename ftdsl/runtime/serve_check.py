"""`serve_check.py SPEC.json`: asks a served model questions, and compares its prompts and greedy answers with those of the chat
template that the model was trained with.

`prompts_equal`: the share of questions whose prompt has the same token ids (of Ollama: as many tokens); `answers_equal`: the
share of greedy answers that are the same text. A server that writes prompts in another way than the training is a warning.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the tool's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import servers
from .report import Log, StageError, carried_out, lacks, marked, save_result
from .tuning import tokens
from .tuning.formats import Format, Ids, format_of
from .tuning.rows import Row, Shape

QUESTIONS = (
    "What is the capital of France?", "Name three colours.", "Write a sentence about the sea.", "What is 7 times 8?",
    "Translate \"good morning\" into Spanish.", "Give me a short recipe for pancakes.", "Why is the sky blue?",
    "Say hello in two words.",
)  # fmt: skip
FOLLOWED = (
    ("Hi!", "Hello. What can I do for you?", "Tell me a joke."),
    ("Name a river.", "The Nile.", "And a mountain?"),
)
"""Conversations of several turns, in which chat templates differ most."""


def check(spec: dict[str, Any], log: Log) -> int:
    """Ask, compare, save. Raises: StageError."""
    if marked(spec["model"]) and not spec.get("smoke"):
        text = f"{spec['model']} was made by a smoke run: a toy trained for a few steps"
        raise StageError(text, "model", help="name the real model", code="FT954")
    model = str(Path(spec["model"]).resolve()) if Path(spec["model"]).is_dir() else spec["model"]
    questions = list(_questions(spec))
    log.event("progress", done=0, total=len(questions) + 1, what="loading")
    tokenizer = _tokenizer(spec, model)
    format = format_of(spec["format"])
    format.prepare(tokenizer)
    prompts = [tokens.prompted(format, tokenizer, row, 1 << 30) for row in questions]
    wanted = _answers(spec, model, tokenizer, format, prompts)
    served = servers.server(
        spec["server"],
        model,
        Path(spec["stage"]).resolve(),
        device=spec["device"],
        trust=bool(spec.get("trust_remote_code")),
    )
    samples, differences = [], []
    with servers.started(served, Path(spec["stage"], "server.txt")):
        for number, (row, prompt, answer) in enumerate(zip(questions, prompts, wanted, strict=True), 1):
            log.event("progress", done=number, total=len(questions) + 1, what="asking")
            samples.append(_asked(spec, served, tokenizer, row, prompt, answer))
            if samples[-1]["difference"]:
                differences.append(f"question {number}: {samples[-1]['difference']}")
    _save(spec, samples)
    if differences:
        text = (
            f"{spec['server']} writes {len(differences)} of {len(questions)} prompts otherwise than the training; "
            f"{differences[0]}"
        )
        help = "serve it with the training's template: the tokenizer's `chat_template`, a Modelfile's `TEMPLATE`"
        log.warn(StageError(text, "template", "serve", help=help, code="FT977"))
    return 0


def _questions(spec: dict[str, Any]) -> Iterator[Row]:
    """Conversations that end with a question: of the rows, else the program's own."""
    count = int(spec["questions"])
    if "rows" not in spec:
        several = [Row((("user", first), ("assistant", answer), ("user", then))) for first, answer, then in FOLLOWED]
        single = [Row((("user", text),)) for text in QUESTIONS]
        yield from [*several, *single][:count]
        return
    source = spec["rows"]
    shape = Shape(source["format"], source["columns"], source["roles"], asks=True)
    asked = 0
    for raw in _read(Path(source["file"])):
        row = shape.read(raw)
        if row is None:
            continue
        messages = row.messages[:-1] if row.messages[-1][0] == "assistant" else row.messages
        if any(role == "tool" for role, _ in messages):
            continue
        yield Row(messages, row.system)
        asked += 1
        if asked == count:
            return
    if not asked:
        raise StageError(f"{source['file']} has no row with a question", "data")


def _read(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json" and text.lstrip().startswith("["):
        rows: list[dict[str, Any]] = json.loads(text)
        return rows
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _tokenizer(spec: dict[str, Any], model: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model, trust_remote_code=bool(spec.get("trust_remote_code")))


def _answers(spec: dict[str, Any], model: str, tokenizer: Any, format: Format, prompts: list[Ids]) -> list[str]:
    """Greedy answers by transformers to the prompts of the training's template. The model is gone from memory afterwards."""
    import torch
    import transformers

    trust = bool(spec.get("trust_remote_code"))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype="auto", trust_remote_code=trust)
    loaded = loaded.to(spec["device"]).eval()
    ends = loaded.generation_config.eos_token_id
    ends = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
    ends += [tokenizer.convert_tokens_to_ids(token) for token in format.stop]
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=loaded.device)
        with torch.inference_mode():
            made = loaded.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=spec["max_new_tokens"],
                eos_token_id=[end for end in dict.fromkeys(ends) if end is not None], pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        answers.append(tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True).strip())
    del loaded
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return answers


def _asked(
    spec: dict[str, Any], served: servers.Server, tokenizer: Any, row: Row, prompt: Ids, answer: str
) -> dict[str, Any]:
    """One question: both prompts, both answers, and how the prompts differ ("" if they do not)."""
    messages = [{"role": "system", "content": row.system}] if row.system else []
    messages += [{"role": role, "content": text} for role, text in row.messages]
    shown = tokenizer.decode(prompt, skip_special_tokens=False)
    try:
        reply = served.ask(messages, spec["max_new_tokens"], thinking=spec.get("thinking"), seed=spec["seed"])
    except OSError as error:
        return {"prompt": shown, "label": answer, "predict": "", "difference": f"the server refuses it ({error})"}
    theirs = list(reply.prompt_ids) if reply.prompt_ids is not None else _rendered(spec, served, tokenizer, messages)
    difference = ""
    if theirs is not None and theirs != prompt:
        difference = _difference(tokenizer, prompt, theirs)
    elif reply.prompt_tokens not in (-1, len(prompt)):
        difference = f"it has {reply.prompt_tokens} tokens, and the training's {len(prompt)}"
    return {"prompt": shown, "label": answer, "predict": reply.text.strip(), "difference": difference}


def _rendered(
    spec: dict[str, Any], served: servers.Server, tokenizer: Any, messages: list[dict[str, str]]
) -> Ids | None:
    """What transformers' server makes of messages (transformers/cli/serving/chat_completion.py): the tokenizer's template. It
    gives no ids itself; None for a server whose template is another.
    """
    if served.kind != "transformers":
        return None
    options = {} if spec.get("thinking") is None else {"enable_thinking": spec["thinking"]}
    made = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, **options
    )
    return [int(number) for number in made["input_ids"]]


def _difference(tokenizer: Any, ours: Ids, theirs: Ids) -> str:
    """Where two prompts begin to differ, as text."""
    at = next(
        (at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
        min(len(ours), len(theirs)),
    )

    def piece(ids: Ids) -> str:
        return repr(tokenizer.decode(ids[at : at + 8], skip_special_tokens=False)) if ids[at:] else "its end"

    return f"from token {at + 1} on it has {piece(theirs)}, and the training's has {piece(ours)}"


def _save(spec: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """result.json, and every question in served.jsonl."""
    folder = Path(spec["stage"])
    lines = [json.dumps(sample, ensure_ascii=False) for sample in samples]
    (folder / "served.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    count = len(samples)
    metrics = {
        "prompts_equal": sum(not sample["difference"] for sample in samples) / count,
        "answers_equal": sum(sample["label"] == sample["predict"] for sample in samples) / count,
        "questions": count,
    }
    kept = [{name: sample[name] for name in ("prompt", "label", "predict")} for sample in samples[:20]]
    result = {"kind": "metrics", "path": str(folder / "result"), "metrics": metrics, "samples": kept}
    save_result(spec["stage"], result, smoke=bool(spec.get("smoke")))


def main(argv: list[str]) -> int:
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    variable = "FT_VLLM_PYTHON" if spec["server"] == "vllm" else "FT_TRANSFORMERS_PYTHON"
    needed = {"vllm": "vllm", "transformers": "uvicorn"}.get(spec["server"], "transformers")
    if lacks(needed, f"{spec['server']} server", variable):
        return 1
    return carried_out(lambda log: check(spec, log), Log(spec["stage"]), last=not spec.get("gates"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
