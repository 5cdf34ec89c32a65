"""Every method, precision, optimizer, … in a recipe's words, and what becomes of it on a machine without a card.

One list for the tests that run them (tests/real/test_methods.py), those that only compile them, and docs/methods.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SHARED = """\
template = qwen3_nothink
max_len  = 96
duration = 4 steps
seed     = 7
batch { global = 4, micro = 2 }
memory { checkpointing = none }
track { every = 1 steps }

data rows  { source = file("rows.jsonl"), holdout { eval = 4 } }
data texts { source = file("texts.jsonl"), format = text, columns { prompt = "text" } }
data pairs { source = file("pairs.jsonl") }
data liked { source = file("liked.jsonl") }
"""
HEAD = f"""\
hardware {{ gpu = none, count = 1 }}
let tiny = scratch(architecture = qwen3, hidden = 64, layers = 2, heads = 4, vocab = 600)
optim {{ lr = 2e-3, schedule = constant }}
{SHARED}"""
"""A toy on this CPU: what runs."""

CARD = f"""\
hardware {{ gpu = h100(80GB), count = 1 }}
let tiny = hf("Qwen/Qwen3-0.6B")
precision = bf16
optim {{ lr = 1e-5 }}
{SHARED}"""
"""A card: what only compiles here."""

DATA = {"pretrain": "texts", "reward": "pairs", "dpo": "pairs", "kto": "liked"}


def write_rows(place: Path) -> None:
    """The files that both name."""
    answers = [
        {"instruction": f"Say the number {n}.", "input": "", "output": f"It is the number {n}."} for n in range(24)
    ]
    files: dict[str, list[dict[str, Any]]] = {
        "rows": [dict(row) for row in answers],
        "texts": [{"text": row["output"] * 4} for row in answers],
        "pairs": [
            {"instruction": row["instruction"], "input": "", "chosen": row["output"], "rejected": "I do not know."}
            for row in answers
        ],
        "liked": [{**row, "label": number % 2 == 0} for number, row in enumerate(answers)],
    }
    for name, rows in files.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# --- what a training must show


@dataclass
class Seen:
    """What tests/real/probe.py saw of a training, and what the training left.

    open, trained: parameters that could learn, that changed; kinds, types: modules by class, weights by number type;
    products, logits: their number types in a forward pass; placed: rates of dropout between layers; rates: of the
    optimizer's groups; state, kept: the optimizer's tensors by number type, and how many numbers they hold; rows, mask: shape
    of the first batch, dimensions and largest entry of its mask; curve: the rate of each step; saved: type and shape of the
    tensors that were written.
    """

    open: list[str]
    trained: list[str]
    kinds: dict[str, int]
    types: dict[str, int]
    optimizer: str
    rates: list[float]
    state: dict[str, int]
    kept: int
    attention: str
    dropouts: list[float]
    recomputed: int
    noisy: bool
    placed: list[float]
    quantised: list[list[Any]]
    steps: int
    products: str = ""
    logits: str = ""
    rows: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    adapter: dict[str, Any] = field(default_factory=dict)
    saved: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)


Shows = Callable[[Seen], object]
"""True (or anything that counts as true) when what was asked for is there."""

WEIGHTS, FREE, LAYER = 25, 342_041, 11
"""Of the toy: named weights; numbers AdamW keeps for all of them; named weights of one layer."""
LINEAR = 14
"""Its linear modules within layers."""
BEGIN = 5.558
"""Its first loss on `rows`, whatever the method: adapters begin at nothing."""


def begins(seen: Seen, loss: float = BEGIN) -> bool:
    return math.isclose(seen.losses[0], loss, abs_tol=0.01)


def only(seen: Seen, *parts: str) -> bool:
    """Whether what changed are just the weights with one of these in their name."""
    return all(any(part in name for part in parts) for name in seen.trained)


def rates(*shares: float) -> Shows:
    """The rate of each step as a share of the peak."""
    return lambda seen: all(
        math.isclose(rate, 2e-3 * share, rel_tol=1e-3, abs_tol=1e-9)
        for rate, share in zip(seen.curve, shares, strict=True)
    )


def four(seen: Seen, kind: str, double: bool = True) -> bool:
    """Whether weights are held in 4 bits of this kind, their constants quantised too or not."""
    return seen.quantised == [[kind, double]]


def ends(seen: Seen, *names: str) -> bool:
    """Whether each adapted module has tensors of these names in what was saved."""
    return all(sum(f".{name}" in key for key in seen.saved) == LINEAR for name in names)


def optimizer(name: str, **more: Any) -> Shows:
    return lambda seen: seen.optimizer == name and all(getattr(seen, key) == value for key, value in more.items())


# --- the list


class Row(NamedTuple):
    """Words of a stage, and what shows that they are there.

    card: why it needs one; then the engine's own parser is all that sees it here. know: what to know.
    """

    group: str
    words: str
    shows: Shows
    kind: str = "sft"
    card: str = ""
    know: str = ""

    @property
    def label(self) -> str:
        return self.words if self.kind == "sft" else f"{self.kind}: {self.words}"

    def stage(self, name: str) -> str:
        return f"{self.kind} {name} {{ model = tiny, data = {DATA.get(self.kind, 'rows')}, {self.words} }}"


def ran(group: str, *cases: tuple[str, Shows] | tuple[str, Shows, str], kind: str = "sft") -> list[Row]:
    return [Row(group, case[0], case[1], kind, know=case[2] if len(case) == 3 else "") for case in cases]


def carded(group: str, why: str, *cases: str | tuple[str, str]) -> list[Row]:
    pairs = [(case, "") if isinstance(case, str) else case for case in cases]
    return [Row(group, words, lambda _: True, card=why, know=know) for words, know in pairs]


def _all(seen: Seen) -> bool:
    return len(seen.trained) == WEIGHTS and not seen.adapter


def _lora(seen: Seen) -> bool:
    return begins(seen) and only(seen, "lora_A", "lora_B") and ends(seen, "lora_A", "lora_B")


METHODS = ran(
    "method",
    ("full {}", _all),
    ("freeze { layers = last(1) }", lambda s: only(s, "layers.1.") and len(s.trained) == LAYER),
    (
        "freeze { layers = first(1), modules = [mlp], extra = [norm] }",
        lambda s: only(s, "layers.0.mlp", "norm") and "model.norm.weight" in s.trained,
    ),
    (
        "freeze { layers = expanded(1) }",
        lambda s: only(s, "layers.1.") and len(s.trained) == LAYER,
        "for LLaMA-Pro models",
    ),
    ("lora { rank = 4, targets = all }", lambda s: _lora(s) and s.adapter["r"] == 4),
    (
        "lora { rank = 4, alpha = 16, dropout = 10%, targets = [q_proj, v_proj] }",
        lambda s: len(s.trained) == 8 and s.adapter["lora_alpha"] == 16 and s.adapter["lora_dropout"] == 0.1,
    ),
    ("lora { rank = 4, rslora = true }", lambda s: _lora(s) and s.adapter["use_rslora"]),
    (
        "lora { rank = 4, variant = dora }",
        lambda s: s.adapter["use_dora"] and ends(s, "lora_magnitude_vector") and "magnitude" in str(s.trained),
    ),
    (
        "lora { rank = 4, init = pissa(iterations = 4, convert = true) }",
        lambda s: begins(s) and s.adapter["init_lora_weights"] == "pissa_niter_4",
        "`convert` makes it an ordinary adapter of twice the rank, which fits the base it came from",
    ),
    ("lora { rank = 4, init = pissa(iterations = exact) }", lambda s: s.adapter["init_lora_weights"] == "pissa"),
    (
        "lora { rank = 4, lr_ratio = 16, embedding_lr = 1e-5 }",
        lambda s: _lora(s) and s.rates == [1e-5, 2e-3, 3.2e-2],
        "LoRA+: the rate of B is 16 times that of A",
    ),
    ("lora { rank = 4, layers = expanded(1) }", lambda s: only(s, "layers.1."), "for LLaMA-Pro models"),
    (
        "lora { rank = 4, modules_to_save = [embed_tokens, lm_head] }",
        lambda s: {"base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight"} <= s.saved.keys(),
    ),
    ("oft { block = 8 }", lambda s: begins(s) and s.adapter["oft_block_size"] == 8 and ends(s, "oft_R")),
    (
        "oft { rank = 4, targets = [q_proj, v_proj] }",
        lambda s: s.adapter["r"] == 4 and len(s.trained) == 4 and only(s, "q_proj", "v_proj"),
        "the engine reads OFT's targets where LoRA's stand: both are written (FT324)",
    ),
)
FOUR = "lora { rank = 4 }, quantize { bits = 4"
QUANTISED = [
    *ran(
        "base in fewer bits",
        (
            f"{FOUR} }}",
            lambda s: ends(s, "lora_A") and four(s, "nf4"),
        ),
        (f"{FOUR}, scheme = nf4, double = false }}", lambda s: four(s, "nf4", double=False)),
        (f"{FOUR}, scheme = fp4 }}", lambda s: four(s, "fp4")),
        (
            "lora { rank = 4 }, quantize { bits = 8 }",
            lambda s: s.types["int8"] == LINEAR,
        ),
        ("oft { block = 8 }, quantize { bits = 4 }", lambda s: four(s, "nf4") and ends(s, "oft_R")),
        (
            f"{FOUR} }}, precision = bf16, upcast = [norms, logits]",
            lambda s: (
                s.types.get("bfloat16") == LINEAR and s.logits == "float32" and four(s, "nf4")
            ),  # packed weights only
        ),
    ),
    *carded(
        "base in fewer bits",
        "EETQ's kernels are CUDA's",
        ("lora { rank = 4 }, quantize { bits = 8, scheme = eetq }", "EETQ is a package of its own"),
    ),
]
PRECISION = [
    *ran(
        "precision",
        ("precision = fp32, full {}", lambda s: s.types == {"float32": WEIGHTS} and s.products == "float32"),
        (
            "precision = bf16, full {}",
            lambda s: s.types == {"float32": WEIGHTS} and s.products == "bfloat16",
            "weights that learn stay in fp32, products are bf16",
        ),
        ("precision = bf16, lora { rank = 4 }", lambda s: s.products == "bfloat16" and _lora(s)),
    ),
    *carded(
        "precision",
        "CPUs have no such arithmetic",
        ("precision = fp16, full {}", "on CPU the engine would drop it without a word (FT225)"),
        ("precision = pure_bf16, full {}", "weights and the optimizer's state are bf16 too"),
        ("precision = fp8, full {}", "Hopper, Ada or newer (FT211)"),
        "tf32 = true, full {}",
    ),
]
_ADAM = {"float32": 3 * WEIGHTS}
OPTIMIZERS = [
    *ran(
        "optimizer",
        ("full {}, optim { name = adamw }", optimizer("AdamW", state=_ADAM, kept=FREE)),
        (
            "full {}, optim { name = adamw_8bit }",
            lambda s: s.state.get("uint8"),
            "bitsandbytes; small tensors stay in fp32",
        ),
        (
            "full {}, optim { name = paged_adamw_8bit }",
            lambda s: s.state.get("uint8"),
            "pages out to main memory on a card",
        ),
        ("full {}, optim { name = lion_32bit }", optimizer("Lion", state={"float32": WEIGHTS})),
        ("full {}, optim { name = adafactor }", lambda s: s.optimizer == "Adafactor" and s.kept < FREE / 50),
        ("full {}, optim { name = sgd }", optimizer("SGD", kept=0)),
        ("full {}, optim { name = adam_mini }", lambda s: s.optimizer == "Adam_mini" and s.kept < FREE / 1.9),
        ("full {}, optim { name = muon }", lambda s: s.optimizer == "Muon" and s.kept < FREE / 1.5),
        (
            "full {}, optim { name = galore(rank = 4, targets = [mlp], every = 2) }",
            lambda s: s.kept < FREE / 2 and _all(s),
            "`every` of GaLore and APOLLO: steps between projections",
        ),
        (
            "full {}, optim { name = galore(rank = 4, layerwise = true) }, batch { global = 4, micro = 4 }",
            optimizer("DummyOptimizer"),
            "an optimizer for each layer: no accumulation, one process",
        ),
        ("full {}, optim { name = galore(rank = 4, base = adafactor) }", optimizer("Adafactor")),
        (
            "full {}, optim { name = apollo(rank = 4, proj = random, scale_type = channel) }",
            lambda s: s.kept < FREE / 3 and _all(s),
        ),
        (
            "full {}, optim { name = apollo(rank = 4, layerwise = true) }, batch { global = 4, micro = 4 }",
            optimizer("DummyOptimizer"),
        ),
        (
            "full {}, optim { name = badam(mode = layer, switch = ascending, every = 2) }",
            lambda s: s.optimizer == "BlockOptimizer" and len(s.trained) < WEIGHTS,
            "one layer at a time",
        ),
        (
            "full {}, optim { name = badam(mode = ratio, ratio = 10%) }",
            lambda s: s.optimizer == "BlockOptimizerRatio" and s.kept < FREE / 5,
        ),
    ),
]
_LORA = "lora { rank = 4 }"
SCHEDULES = ran(
    "rate",
    (f"{_LORA}, optim {{ schedule = linear, warmup = 25% }}", rates(0, 1, 2 / 3, 1 / 3)),
    (f"{_LORA}, optim {{ schedule = cosine, min_lr = 10% }}", rates(1, 0.8682, 0.55, 0.2318)),
    (f"{_LORA}, optim {{ schedule = cosine_with_restarts(cycles = 2) }}", rates(1, 0.5, 1, 0.5)),
    (f"{_LORA}, optim {{ schedule = polynomial(power = 2) }}", rates(1, 0.5625, 0.25, 0.0625)),
    (f"{_LORA}, optim {{ schedule = wsd(stable = 2 steps, decay = 2 steps) }}", rates(1, 1, 1, 0.5)),
    (
        f"{_LORA}, optim {{ schedule = [warmup(1 steps), hold(1 steps), decay(2 steps, to = 1%)] }}",
        rates(0.01, 1, 1, 0.505),
        "the handbook's three phases; transformers' `warmup_stable_decay` where it can draw them",
    ),
    (
        f"{_LORA}, optim {{ schedule = [warmup(1 steps, start = 50%), hold(25%), decay(50%, to = 1%)] }}",
        rates(0.5, 1, 1, 0.505),
        "a start of its own, shares of the run: drawn by ftdsl's runtime",
    ),
)
LOSSES = ran(
    "loss",
    (f"{_LORA}, loss = dft", lambda s: s.losses[0] < 0.1),
    (f"{_LORA}, loss = eaft(alpha = 2)", lambda s: BEGIN - 1 < s.losses[0] < BEGIN - 0.1),
    (
        "full {}, loss = asft, batch { global = 4, micro = 4 }, evaluate { every = never }",
        lambda s: s.losses[0] < 0.1,
        "no evaluation while it trains (FT613), no accumulation (FT222)",
    ),
    (
        f"{_LORA}, label_smoothing = 10%, batch {{ global = 4, micro = 4 }}",
        lambda s: BEGIN < s.losses[0] < BEGIN + 0.2,
        "no accumulation (FT222)",
    ),
    (f"{_LORA}, neftune = 5", lambda s: s.noisy and not begins(s), "noise on the embeddings"),
)
ATTENTION = [
    *ran(
        "attention",
        (f"{_LORA}, attention = eager", lambda s: s.attention == "eager" and _lora(s)),
        (
            f"{_LORA}, attention = sdpa, attention_dropout = 10%",
            lambda s: s.attention == "sdpa" and s.dropouts == [0.1] and not begins(s, s.losses[0] + 0.02),
            "put into every layer by ftdsl's runtime; what is saved keeps the model's own",
        ),
        (
            f"{_LORA}, hidden_dropout = 10%",
            lambda s: s.placed == [0.1] * 4 and not begins(s, s.losses[0] + 0.02),
            "on what attention and MLP add, where the model has no place of its own; by ftdsl's runtime, and not saved",
        ),
        (f"{_LORA}, upcast = [softmax]", _lora, "every attention of transformers has its softmax in fp32 anyway"),
    ),
    *carded(
        "attention",
        "FlashAttention is CUDA's",
        (f"{_LORA}, attention = flash2", "Ampere or newer; on CPU the engine goes back to the model's own (FT225)"),
    ),
]
PACKING = ran(
    "packing",
    (
        f"{_LORA}, packing = plain",
        lambda s: s.rows == [2, 96] and s.mask[:1] == [2],
        "rows of one sequence see each other",
    ),
    (f"{_LORA}, packing = neat, attention = eager", lambda s: s.rows == [2, 96] and s.mask[:1] == [4], "rows do not"),
)
MEMORY = [
    *ran(
        "memory",
        (f"{_LORA}, memory {{ checkpointing = full }}", lambda s: s.recomputed and _lora(s)),
        (f"{_LORA}, memory {{ checkpointing = full(reentrant = false) }}", lambda s: s.recomputed and _lora(s)),
        (f"{_LORA}, memory {{ checkpointing = none }}", lambda s: not s.recomputed and _lora(s)),
    ),
    *carded("memory", "moves to CUDA", f"{_LORA}, memory {{ checkpointing = full, offload_activations = true }}"),
]
KERNELS = carded(
    "kernels",
    "Triton",
    (f"{_LORA}, kernels = liger", "fused loss and norms; the package liger-kernel"),
    (f"{_LORA}, kernels = unsloth", "one card, the package unsloth"),
)
ON_THE_WAY = ran(
    "on the way",
    (
        "full {}, save { every = 1 steps, keep = 2 }",
        lambda s: s.checkpoints == ["checkpoint-3", "checkpoint-4"],
        "the handbook's rotation",
    ),
    (
        "full {}, duration = 20 steps, optim { lr = 1e-9 }, evaluate { data = rows.eval, every = 1 steps },"
        " save { every = 1 steps, best_by = eval_loss }, guard { patience = 2 }",
        lambda s: 2 < s.steps < 20,
        "early stop: two scores without a better one",
    ),
)
STAGES = [
    *ran(
        "stage",
        (_LORA, lambda s: ends(s, "lora_A", "lora_B")),
        ("full {}, packing = plain", lambda s: s.rows[1] >= 95),
        kind="pretrain",
    ),
    *ran(
        "stage",
        (_LORA, lambda s: "v_head" in str(s.trained)),
        ("full {}", lambda s: "v_head.summary.weight" in s.trained),
        kind="reward",
    ),
    *ran(
        "stage",
        (_LORA, lambda s: begins(s, math.log(2)), "the reference is the model without its adapter"),
        (f"{_LORA}, loss = orpo", lambda s: s.losses[0] > BEGIN - 0.5),
        (f"{_LORA}, loss = simpo(gamma = 0.5)", lambda s: begins(s, 0.955)),
        ("full {}, sft_weight = 0.1", lambda s: s.losses[0] > math.log(2) + 0.4, "the reference is a second copy"),
        (f"{_LORA}, quantize {{ bits = 4 }}", lambda s: four(s, "nf4") and begins(s, math.log(2))),
        kind="dpo",
    ),
    *ran("stage", (_LORA, lambda s: begins(s, 0.5)), ("full {}", lambda s: begins(s, 0.5)), kind="kto"),
]
TABLE: Sequence[Row] = [
    *METHODS, *QUANTISED, *PRECISION, *OPTIMIZERS, *SCHEDULES, *LOSSES, *ATTENTION, *PACKING, *MEMORY, *KERNELS, *ON_THE_WAY,
    *STAGES,
]  # fmt: skip
