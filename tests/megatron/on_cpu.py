"""Routes `cuda` to the CPU, for megatron-core in tests: `install()` before anything of megatron is imported.

Only places change: where tensors are made, and which generator dropout would draw from. What is computed, and what ranks exchange
(over gloo), stays Megatron's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class ToCpu(TorchFunctionMode):
    """`device="cuda"` of any function becomes the CPU, and `.cuda()` changes nothing."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "cuda" in str(kwargs.get("device")):
            kwargs["device"] = "cpu"
        if getattr(function, "__name__", "") == "cuda":
            return args[0]
        return function(*args, **kwargs)


class Stream:
    """A stream of a device that has none."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@contextlib.contextmanager
def nothing(*_: Any, **__: Any) -> Iterator[None]:
    yield


def install() -> None:
    ToCpu().__enter__()
    of_tensors = torch.Tensor.type

    def typed(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        """Megatron asks tensors for their type, and knows those of a GPU alone."""
        found = of_tensors(tensor, *args, **kwargs)
        known = isinstance(found, str) and not found.startswith("torch.cuda.")
        return found.replace("torch.", "torch.cuda.", 1) if known else found

    torch.Tensor.type = typed  # type: ignore[method-assign,assignment]
    cuda: Any = torch.cuda
    cuda.current_device = lambda: "cpu"
    for name in ("synchronize", "empty_cache", "set_device"):
        setattr(cuda, name, lambda *_, **__: None)
    cuda.Stream = cuda.current_stream = cuda.default_stream = lambda *_, **__: Stream()
    cuda.stream = nothing
    cuda.get_rng_state = lambda *_: torch.get_rng_state()
    cuda.set_rng_state = lambda state, *_: torch.set_rng_state(state)


class Norm:
    """torch's RMSNorm where sequences are split: Megatron leaves that to the norms of TransformerEngine and Apex, which mark
    their weight so that `finalize_model_grads` adds its gradients up over the ranks."""

    def __new__(cls, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> Any:
        norm = torch.nn.RMSNorm(hidden_size, eps=eps)
        norm.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        return norm


def replace_kernels() -> None:
    """What Megatron has only for GPUs and the toy needs: norms, and the generators of dropout, which it has none of. After the
    import of megatron."""
    from megatron.core.tensor_parallel import random
    from megatron.core.transformer.torch_norm import WrappedTorchNorm

    random.initialize_rng_tracker()
    random.get_cuda_rng_tracker().fork = nothing
    WrappedTorchNorm.__new__ = Norm.__new__  # type: ignore[method-assign]
