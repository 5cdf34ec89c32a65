"""How training frameworks differ where it costs memory or time: traits, each with the place in that framework's code.

The estimator asks for traits and never for a framework's name. A framework nobody here knows gets the traits of a modern fused
one (`UNKNOWN`), and a wide interval.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftdsl.record import frozen, replace


@frozen(eq=True)
class Traits:
    """Defaults are those of `UNKNOWN`: what most code of the last years does.

    What is done when nobody says: `checkpointing`, `selective` (which kind of selective checkpointing the bare word means),
    `loss` (how logits are held), `norms`, `attention`, `optimizer`.

    The model's code: `repeats_kv`: grouped keys and values are expanded to all heads before attention (`never`, `sdpa`,
    `always`); `fp32_norms`: RMSNorm scales in fp32 before it casts back; `packed_qkv`: one tensor of queries, keys and values,
    of which views are kept; `own_rotary`: some families keep queries and keys before rotation too; `dropout_masks`: models with
    LayerNorm train with dropout; `logit_bytes`: bytes a logit where the loss is the framework's own whatever it is called (0:
    by its kind); `fused_softmax`: eager attention keeps softmax, mask and output in 16 bit.

    Sharding: `fsdp2`: weights are sharded one by one (torch's fully_shard); `fsdp_wraps_adapters`: each map of an adapter is a
    unit; `sequence_parallel`: tensor parallelism splits norms and residuals too; `vocab_parallel`: it splits logits;
    `unsharded_sums`: gradients are summed up whole between steps; `longest_first`: the longest batch comes first, when no
    gradients are summed yet.

    The optimizer: `fp32_gradients`: they are summed in fp32 whatever the weights are in; `fused_step`: it needs no temporary;
    `buckets`: DeepSpeed's communication buckets exist under ZeRO.

    Quantised bases: `own_head`: a head of its own where the model ties it; `quantises_head`; `keeps_quantised_inputs`: 4-bit maps
    keep their input.

    Time: `host`: seconds of CPU for a kernel against transformers' modules; `kernels`: of attention, `flash1`, `flash2`,
    `cudnn`; `overlaps_tensor`: exchanges of tensor parallelism overlap with its products.
    """

    checkpointing: str = ""
    selective: str = "selective_layer"
    loss: str = "hf_fp32_new"
    norms: str = "fused"
    attention: str = "flash"
    optimizer: str = "adamw_fused"
    repeats_kv: str = "never"
    fp32_norms: bool = False
    packed_qkv: bool = False
    own_rotary: bool = False
    dropout_masks: bool = False
    logit_bytes: float = 0.0
    fused_softmax: bool = False
    fsdp2: bool = True
    fsdp_wraps_adapters: bool = False
    sequence_parallel: bool = True
    vocab_parallel: bool = True
    unsharded_sums: bool = False
    longest_first: bool = False
    fp32_gradients: bool = False
    fused_step: bool = False
    buckets: bool = True
    own_head: bool = False
    quantises_head: bool = False
    keeps_quantised_inputs: bool = False
    host: float = 0.8
    kernels: str = "flash2"
    overlaps_tensor: bool = False
    known: bool = False


UNKNOWN = Traits()

HF = Traits(
    # Trainer checkpoints only when asked (transformers, training_args.py: gradient_checkpointing)
    checkpointing="none",
    norms="eager",
    attention="sdpa",
    # modeling code of 4.45 and later; integrations/sdpa_attention.py: repeat_kv
    repeats_kv="sdpa",
    # modeling_mistral.py and kin before 4.48
    own_rotary=True,
    # accelerate wraps by FSDP1 unless told otherwise; peft, utils/other.py: fsdp_auto_wrap_policy
    fsdp2=False,
    fsdp_wraps_adapters=True,
    sequence_parallel=False,
    optimizer="adamw",
    host=1.0,
    known=True,
)

_MEGATRON = Traits(
    # megatron/training/arguments.py: recompute_granularity is None; `selective` recomputes core attention
    checkpointing="none",
    selective="selective_core_attn",
    loss="megatron_ce",
    # arXiv:2205.05198: dropout's masks, scores in 16 bit
    dropout_masks=True,
    fused_softmax=True,
    fsdp2=False,
    # core/optimizer/distrib_optimizer.py: fp32 main gradients, fused Adam of apex or Transformer Engine
    fp32_gradients=True,
    fused_step=True,
    buckets=False,
    # layers of Transformer Engine: few, large kernels; its attention runs cuDNN's kernels on Hopper
    host=0.5,
    kernels="cudnn",
    overlaps_tensor=True,
    known=True,
)

FRAMEWORKS: Mapping[str, Traits] = {
    "hf": HF,
    # scripts/train: MPT's loss is flash-attn's fused cross-entropy, whose gradient replaces the logits, on logits that nothing
    # upcasts (models/mpt/modeling_mpt.py: fused_crossentropy); FlashAttention 1 in 2023
    "composer": replace(
        HF,
        repeats_kv="never",
        own_rotary=False,
        fsdp_wraps_adapters=False,
        logit_bytes=4.0,
        kernels="flash1",
        optimizer="decoupled_adamw",
    ),
    # litgpt: model.py (lm_head without tying, keys expanded, qkv in one tensor), lora.py, finetune scripts that put the longest
    # sample first and sum gradients under no_backward_sync
    "litgpt": replace(
        HF,
        loss="litgpt_chunk",
        repeats_kv="always",
        fp32_norms=True,
        packed_qkv=True,
        own_rotary=False,
        fsdp_wraps_adapters=False,
        unsharded_sums=True,
        longest_first=True,
        own_head=True,
        quantises_head=True,
        keeps_quantised_inputs=True,
    ),
    # torchtune: recipes/configs (enable_activation_checkpointing: True, fused AdamW, CEWithChunkedOutputLoss),
    # modules/attention.py (keys expanded), modules/rms_norm.py (scales in fp32)
    "torchtune": Traits(
        checkpointing="full",
        loss="tt_chunk",
        norms="eager",
        attention="sdpa",
        repeats_kv="always",
        fp32_norms=True,
        sequence_parallel=False,
        host=0.9,
        known=True,
    ),
    # torchtitan: job config (activation_checkpoint.mode = selective, by operation), models/llama3 (repeat_kv), sequence and
    # loss parallelism beside tensor parallelism
    "torchtitan": Traits(
        checkpointing="selective_op",
        selective="selective_op",
        loss="titan_ce",
        norms="eager",
        repeats_kv="always",
        fp32_norms=True,
        host=0.7,
        known=True,
    ),
    # train.py: transformers' Llama with SDPA, checkpointing by default, wrapped by its own policy (units for adapters too)
    "fsdp_qlora": replace(HF, checkpointing="full", loss="hf_fp32", own_rotary=False),
    "megatron": _MEGATRON,
    "nemo": _MEGATRON,
    # xtuner/configs: gradient checkpointing on, model/modules/dispatch: Triton norms and rotary, varlen attention
    "xtuner": replace(
        HF,
        checkpointing="full",
        norms="fused",
        attention="flash",
        own_rotary=False,
        repeats_kv="never",
    ),
    # examples/language/llama: --grad_checkpoint is asked for; apex norms, HybridAdam, flash attention
    "colossal": replace(
        HF,
        norms="fused",
        attention="flash",
        own_rotary=False,
        repeats_kv="never",
        fused_step=True,
        buckets=False,
        sequence_parallel=True,
        fsdp_wraps_adapters=False,
    ),
    # NeMo Automodel: transformers' models under FSDP2, kernels of Liger or Transformer Engine
    "automodel": replace(
        UNKNOWN,
        checkpointing="none",
        attention="sdpa",
        optimizer="adamw",
        kernels="cudnn",
        known=True,
    ),
    # fms_fsdp/config/training.py: fsdp_activation_checkpointing = False, compiled; blocks of its own, FSDP1 in bf16
    "fms-fsdp": Traits(
        checkpointing="none",
        loss="hf_bf16",
        norms="eager",
        attention="sdpa",
        fsdp2=False,
        optimizer="adamw",
        host=0.8,
        known=True,
    ),
    # these train transformers' models through its Trainer (SDPA unless told, FSDP by accelerate)
    "axolotl": HF,
    "trl": HF,
    "unsloth": replace(
        HF,
        checkpointing="full",
        loss="fused_ce_new",
        norms="fused",
        attention="flash",
        own_rotary=False,
        repeats_kv="never",
        fsdp_wraps_adapters=False,
        host=0.6,
    ),
    "deepspeed": HF,
}
"""By the words that the truth format and people use. Versions are told apart where the estimator has them (`Setup.version`)."""


def traits_of(framework: str, version: str = "") -> Traits:
    """The traits of a framework; `UNKNOWN` for one that is not in the table. `version`: none of the table differs by it yet."""
    return FRAMEWORKS.get(framework.strip().lower().replace("_", "-"), FRAMEWORKS.get(framework, UNKNOWN))
