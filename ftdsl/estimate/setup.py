"""One training set-up: all that decides what it costs. The planner fills it from a plan, the benchmarks from a row."""

from __future__ import annotations

from functools import cached_property

from ftdsl import catalog
from ftdsl.estimate.architecture import Architecture, NotModelledError
from ftdsl.estimate.frameworks import Traits, traits_of
from ftdsl.record import frozen

BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0}

METHODS = ("full", "freeze", "lora", "oft", "adapter", "adapter_v2")
QUANTS = ("none", "nf4", "nf4-dq", "int8", "gptq4", "gptq8", "fp8_compute")
CHECKPOINTING = ("none", "full", "selective", "selective_op", "selective_layer", "selective_core_attn")
STRATEGIES = ("single", "ddp", "zero1", "zero2", "zero3", "fsdp", "fsdp_grad_op", "hsdp", "gemini", "device_map")
SHARDED = {"zero3", "fsdp", "hsdp", "gemini"}
"""Strategies that keep only a part of the weights on each GPU."""
OBJECTIVES = ("sft", "preference", "dpo", "kto", "reward", "ppo")
"""What is learnt: `sft` stands for every loss over the next token, `preference` for those without a reference (ORPO, SimPO)."""
KINDS = ("allocated_peak", "active_peak", "reserved_peak", "nvidia_smi", "capacity")

INLINE_ECC = 1 / 16
"""The part of its memory that a GPU with `inline_ecc` keeps for error correction (48 GiB of an L40S: 45)."""

ALPACA_LONGEST = 1024
"""Tokens of the longest samples of Alpaca, whatever the cutoff: 1044 with Phi's tokenizer, 1304 with Llama's over all 52,000
(litgpt's tables), fewer in the part that a measurement runs over."""


ALPACA_MEAN = 120
"""Tokens of an average sample of Alpaca with its template, which a step's time goes by: 919 bytes a row of 52,001 hold its fields
twice and the template of about 160 once (the dataset's card: num_bytes), which leaves 540 with the template, at 4.5 a token.
"""
LONGEST_OF_LIMIT = 0.93
"""Of a limit at which rows are cut, the longest batch: between the limit, where some row is cut, and three quarters of it, where
the limit was set with room (no row decides it)."""


@frozen(eq=True)
class Setup:
    """A training setup. Only the architecture has no default; lengths in tokens, memory in GiB.

    `fused_adapters`: base and adapter in one kernel (foak's, Unsloth's), which casts the thin matrices but not their input.
    `trains_embeddings`: embedding and head are trained in addition to the adapter. `dora`: LoRA with magnitudes; `oft_block`:
    size of OFT's blocks; `trained_layers`: of `freeze`, the last ones unless `trained_first`. `train_dtype`: of trained
    parameters; `base_dtype`: of frozen and loaded ones. `master`: fp32 master weights and states for low-precision weights.
    `optimizer_rank`: of GaLore's and APOLLO's subspace. `references`: additional frozen models, in `reference_quant`.
    `reference_dtype`: of them and of `teachers` and `judges`, frozen models of other sizes; judges are whole on every GPU.
    `eval_batch`: evaluation batch per GPU (0: none), `generated`: tokens generated for each sequence. `rollout`: tokens, at
    most, of an answer that is written for each sequence before the model trains on it (0: none); `rollout_share`: steps that
    write, as a share; `nucleus`: sampling by `top_p`; `vllm`: vLLM writes, and keeps the share `served` of the GPU;
    `extra_forwards`: passes of a micro-batch without gradient, of the reference and of old probabilities. `mask`: attention gets
    a mask for each pair of tokens (packed rows that do not attend to each other). `document_len`: tokens that scores reach in
    a packed sequence whose kernels keep its rows apart (0: the whole sequence; for rows of many lengths
    sum(l^2) / sum(l)). `loss`: how
    logits and cross-entropy are stored (estimate.loss).

    `data`, `tensor`, `pipeline`, `context`, `expert`: the split of the world; `shard`: how many of `data` share one copy (0: all;
    hybrid sharding: a node); `node`: GPUs of a machine. `power`: W the GPU is held to (0: its own); `pcie_only`: its links are
    PCIe. `framework` as in estimate.frameworks, `version` of its model code where it matters. `virtual`: interleaved
    pipeline stages on a rank. `arithmetic`: fp32, bf16, fp16 or fp8 where it is not what dtype, autocast and strategy come to.
    `unknown`: what of the set-up was inferred or left open, which widens the intervals.
    """

    architecture: Architecture
    method: str = "full"
    lora_rank: int = 0
    lora_targets: tuple[str, ...] = ()
    lora_dropout: bool = False
    fused_adapters: bool = False
    dora: bool = False
    oft_block: int = 32
    trained_layers: int = 0
    trained_first: bool = False
    trains_embeddings: bool = False
    quant: str = "none"
    base_dtype: str = "bf16"
    train_dtype: str = "fp32"
    master: bool = False
    autocast: bool = True
    optimizer: str = "adamw"
    optimizer_rank: int = 0
    opt_in_backward: bool = False
    objective: str = "sft"
    references: int = 0
    reference_quant: str = "none"
    reference_dtype: str = "bf16"
    teachers: tuple[Architecture, ...] = ()
    judges: tuple[Architecture, ...] = ()
    eval_batch: int = 0
    generated: int = 0
    rollout: int = 0
    rollout_share: float = 1.0
    nucleus: bool = False
    vllm: bool = False
    served: float = 0.0
    extra_forwards: float = 0.0
    mask: bool = False
    kbit_prepare: bool = False
    seq_len: int = 2048
    seq_kind: str = "exact"
    document_len: int = 0
    micro_batch: int = 1
    accumulate: int = 1
    checkpointing: str = "full"
    offload_activations: bool = False
    attention: str = "flash"
    loss: str = "hf_fp32_new"
    norms: str = "eager"
    compile: bool = False
    strategy: str = "single"
    offload: str = "none"
    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    virtual: int = 1
    shard: int = 0
    node: int = 8
    card: str = "a100"
    card_memory: float = 0.0
    power: float = 0.0
    pcie_only: bool = False
    framework: str = "hf"
    version: str = ""
    arithmetic: str = ""
    unknown: tuple[str, ...] = ()

    @cached_property
    def traits(self) -> Traits:
        """How the framework differs from others."""
        return traits_of(self.framework, self.version)

    @property
    def selective(self) -> str:
        """The kind of selective checkpointing; the kind of checkpointing otherwise."""
        return self.traits.selective if self.checkpointing == "selective" else self.checkpointing

    @property
    def world(self) -> int:
        return self.data * self.tensor * self.pipeline * self.context

    @property
    def tokens(self) -> int:
        """Tokens of the longest micro-batch on one GPU (a context-parallel rank holds its part of each sequence)."""
        longest = min(self.seq_len, ALPACA_LONGEST) if "alpaca" in self.seq_kind else self.seq_len
        if self.seq_kind == "trunc_max":
            longest = round(longest * LONGEST_OF_LIMIT)
        return self.micro_batch * longest // self.context

    @property
    def gpu(self) -> catalog.Gpu:
        """The GPU's facts. Raises: NotModelledError if the catalogue does not have it."""
        gpu = catalog.gpus().get(self.card)
        if gpu is None:
            raise NotModelledError(f"the catalogue has no GPU `{self.card}`")
        return gpu

    @property
    def bandwidth(self) -> float:
        """Bytes a second of the GPU's memory."""
        gpu = self.gpu
        wanted = self.card_memory or gpu.memory[-1]
        nearest = min(range(len(gpu.memory)), key=lambda i: abs(gpu.memory[i] - wanted))
        return gpu.bandwidth[nearest] * 1e9

    @property
    def capacity(self) -> float:
        """Bytes on the GPU, without those that keep error correction."""
        known = catalog.gpus().get(self.card)  # an unknown GPU may have its memory set
        kept = INLINE_ECC if known and known.inline_ecc else 0.0
        return (self.card_memory or self.gpu.memory[-1]) * 2.0**30 * (1 - kept)

    @cached_property
    def weight_shards(self) -> int:
        """Over how many GPUs the data-parallel group spreads its weights; context-parallel ranks shard along."""
        if self.strategy not in SHARDED:
            return 1
        group = self.data * self.context
        if self.strategy == "hsdp":
            return min(group, self.shard or self.node)
        return self.shard or group

    @cached_property
    def state_shards(self) -> int:
        """Over how many GPUs optimizer states are spread."""
        if self.strategy in ("zero1", "zero2", "fsdp_grad_op"):
            return self.data * self.context
        return self.weight_shards

    @cached_property
    def gradient_shards(self) -> int:
        """Over how many GPUs gradients are spread."""
        return self.state_shards if self.strategy != "zero1" else 1

    @property
    def fsdp(self) -> bool:
        return self.strategy in ("fsdp", "fsdp_grad_op", "hsdp")

    @property
    def fsdp2(self) -> bool:
        """Whether weights are sharded one by one (torch's fully_shard) instead of as flat parameters."""
        return self.fsdp and self.traits.fsdp2

    @property
    def zero(self) -> bool:
        return self.strategy.startswith("zero") or self.strategy == "gemini"

    @property
    def wide_adapters(self) -> bool:
        """Whether adapters compute in fp32: DeepSpeed casts all of a 16-bit model (runtime/engine.py:
        _configure_distributed_model), adapters too."""
        by_policy = self.base_dtype == "fp32" and not self.autocast and not self.wide_arithmetic
        return self.train_dtype == "fp32" and not by_policy and not (self.zero and self.base_dtype != "fp32")

    @property
    def adapts(self) -> bool:
        """Whether the base is frozen."""
        return self.method != "full"

    @cached_property
    def wide_arithmetic(self) -> bool:
        """Whether it is computed in fp32. Weights in fp32 say nothing of it: autocast computes in 16 bit, and so do FSDP's and
        DeepSpeed's policies, which cast weights as they are gathered."""
        if self.arithmetic:
            return self.arithmetic == "fp32"
        return self.base_dtype == "fp32" and not self.autocast and not self.fsdp and not self.zero

    @property
    def compute_bytes(self) -> float:
        """Bytes of an activation, and of a weight as it is computed with."""
        return 4.0 if self.wide_arithmetic else 2.0
