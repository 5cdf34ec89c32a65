"""A merged model proves itself: the weight that its adapters change most is compared with base + adapters, and it is loaded.

LLaMA-Factory has ended well and left the unmodified base, where `export_size` was near the size of the base's shards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .report import Log, StageError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
APART = 0.3
"""How far the part of a change that a merged weight holds may be from what it should hold."""

LEFT, FAINT = 0.2, 0.1
"""Below this part of a change that rounding leaves, and above this uncertainty, nothing can be said."""


@dataclass(frozen=True)
class Change:
    """What one adapter does to one weight. scale: its factor; size: norm of the factors, an upper bound of the change's."""

    folder: str
    module: str
    config: dict[str, Any]
    scale: float
    size: float


class Tensors:
    """The tensors of a model by name, read one at a time. where: a folder, or the name of a model in the hub's cache."""

    def __init__(self, where: str, revision: str | None = None) -> None:
        self._files: dict[str, str] = {}
        for name, path in _weight_files(where, revision):
            self._files[name] = path

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def name_of(self, module: str) -> str:
        """The weight of a module; "" where there is none, or several could be meant (classes nest a model differently)."""
        wanted = f"{module}.weight"
        if wanted in self._files:
            return wanted
        tail = wanted[wanted.index("layers.") :] if "layers." in wanted else wanted
        near = [name for name in self._files if name.endswith(tail)]
        return near[0] if len(near) == 1 else ""

    def read(self, name: str) -> Any:
        from safetensors import safe_open

        with safe_open(self._files[name], framework="pt") as file:
            return file.get_tensor(name)


def _weight_files(where: str, revision: str | None) -> Iterator[tuple[str, str]]:
    from safetensors import safe_open

    def path_of(name: str) -> str | None:
        from transformers.utils import cached_file

        if Path(where).is_dir():
            return str(Path(where, name)) if Path(where, name).is_file() else None
        path: str | None = cached_file(
            where, name, revision=revision, local_files_only=True, _raise_exceptions_for_missing_entries=False
        )
        return path

    if index := path_of(INDEX):
        for name, file in json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].items():
            if path := path_of(file):
                yield name, path
    elif single := path_of(SINGLE):
        with safe_open(single, framework="pt") as file:
            yield from ((name, single) for name in file.keys())  # noqa: SIM118


def prove(made: Path, base: str, adapters: Sequence[str], log: Log, *, revision: str | None = None) -> None:
    """What was merged holds what its adapters learned, and loads; what was looked at is noted. Raises: StageError."""
    if not list(made.glob("*.safetensors")):
        return
    texts = [compare(base, adapters, made, log, revision=revision)] if adapters else []
    for text in (*texts, reload(made)):
        print(text, flush=True)
        log.event("note", message=text)


def compare(base: str, adapters: Sequence[str], made: Path, log: Log, *, revision: str | None = None) -> str:
    """What was compared, as a sentence. Raises: StageError when the model does not hold what its adapters learned."""
    import torch

    every = [list(_changes(adapter)) for adapter in adapters]
    before, after = Tensors(base, revision), Tensors(str(made))
    sizes: dict[str, float] = {}
    for change in (change for changes in every for change in changes):
        sizes[change.module] = sizes.get(change.module, 0.0) + change.size
    module = next((m for m in sorted(sizes, key=sizes.__getitem__, reverse=True) if _both(m, before, after)), "")
    if not module or not sizes[module]:
        return "the adapters change no weight that could be compared" if sizes else "no weights to compare"
    start, result = before.read(before.name_of(module)), after.read(after.name_of(module))
    if start.shape != result.shape:
        raise _unmerged(f"`{module}` has the shape {tuple(result.shape)}, and the base's is {tuple(start.shape)}")
    if not bool(result.isfinite().all()):
        raise _unmerged(f"`{module}` holds numbers that are none")
    own = [change for changes in every for change in changes if change.module == module]
    loaded = {start.dtype, result.dtype, *_dtype_of(base, revision)}
    held = [_held(own, at, start, result, loaded) for at in range(len(own))]
    if any(share is None for share in held):
        kind = str(result.dtype).removeprefix("torch.")
        text = f"the adapters change the weights less than {kind} can hold (`{module}`)"
        log.warn(StageError(text, "dtype", help="write `dtype = fp32`, or train longer", code="FT971"))
    for at, share in enumerate(held):
        if share is not None and not share.fine:
            same = bool(torch.equal(result, start.to(result.dtype)))
            of = f"of the change by {Path(own[at].folder).name} " if len(own) > 1 else "of the change "
            how = "is the base's, unchanged" if same else f"holds {share.part:.0%} {of}that was learned"
            raise _unmerged(f"`{module}` {how}")
    shares = ", ".join(f"{share.part:.1%}" for share in held if share is not None) or "less than can be told"
    return f"compared with base + adapters: {module} (holds {shares} of the change)"


@dataclass(frozen=True)
class Share:
    """How much of an adapter's change a weight holds; whether that is what rounding leaves of it."""

    part: float
    fine: bool


def _held(own: list[Change], at: int, start: Any, result: Any, loaded: set[Any]) -> Share | None:
    """The part of one adapter's change that is in the merged weight: its projection on the change, from which rounding, which
    knows nothing of the change, is averaged out. None where rounding alone could have eaten it. loaded: the dtypes in which
    the base may have been held while it was merged.
    """
    import torch

    without = _merged([change for n, change in enumerate(own) if n != at], start.double())
    wanted = _merged(own, start.double())
    change = wanted - without
    size = float(torch.linalg.norm(change))
    if not size:
        return Share(1.0, True)

    def share(weight: Any) -> float:
        return float(((weight.double() - without) * change).sum()) / size**2

    expected = [share(_rounded(own, start, kind).to(result.dtype)) for kind in loaded]
    noise = torch.finfo(result.dtype).eps / 4 * float(torch.linalg.norm(wanted)) / math.sqrt(start.numel()) / size
    if min(expected) < LEFT or noise > FAINT:
        return None
    part = share(result)
    return Share(part, (1 - APART) * min(expected) <= part <= (1 + APART) * max(expected))


def _merged(own: Sequence[Change], weight: Any) -> Any:
    for change in own:
        weight = _applied(change, weight)
    return weight


def _rounded(own: Sequence[Change], weight: Any, kind: Any) -> Any:
    """As peft merges: in the dtype of the model, one adapter after the other."""
    weight = weight.to(kind)
    for change in own:
        weight = _applied(change, weight.double()).to(kind)
    return weight


def _dtype_of(base: str, revision: str | None) -> list[Any]:
    """The dtype that the base's configuration names."""
    import torch
    from transformers import AutoConfig

    try:
        named = getattr(AutoConfig.from_pretrained(base, revision=revision, local_files_only=True), "dtype", None)
    except (OSError, ValueError):
        return []
    kind = getattr(torch, named, None) if isinstance(named, str) else named
    return [kind] if isinstance(kind, torch.dtype) else []


def _unmerged(why: str) -> StageError:
    text = f"what was merged does not hold what its adapters learned: {why}"
    help = "write another `shards`, such as `shards = 2GB`, and merge again"
    return StageError(text, "shards", "to", help=help, code="FT970")


def _both(module: str, before: Tensors, after: Tensors) -> bool:
    return bool(before.name_of(module) and after.name_of(module))


def _changes(adapter: str) -> Iterator[Change]:
    """The weights that a LoRA adapter changes by a product of two matrices. Others (OFT, an initial value that is taken from
    the base, ranks by module) are left out.
    """
    from safetensors import safe_open

    folder = Path(adapter) if Path(adapter).is_dir() else _cached(adapter)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    path = folder / "adapter_model.safetensors"
    plain = config.get("peft_type") == "LORA" and not config.get("rank_pattern") and not config.get("alpha_pattern")
    if not plain or not path.is_file() or (isinstance(config.get("init_lora_weights"), str) and _split(config)):
        return
    rank = float(config["r"])
    scale = float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    with safe_open(str(path), framework="pt") as file:
        names = set(file.keys())
        for name in sorted(names):
            if name.endswith(".lora_A.weight") and (other := name.replace(".lora_A.", ".lora_B.")) in names:
                size = scale * float(file.get_tensor(name).double().norm() * file.get_tensor(other).double().norm())
                module = name.removesuffix(".lora_A.weight").removeprefix("base_model.model.")
                yield Change(str(folder), module, config, scale, size)


def _split(config: dict[str, Any]) -> bool:
    """Whether the adapter fits the base less its own initial value."""
    return str(config["init_lora_weights"]).startswith(("pissa", "olora", "corda", "eva", "loftq"))


def _cached(name: str) -> Path:
    from transformers.utils import cached_file

    return Path(str(cached_file(name, "adapter_config.json", local_files_only=True))).parent


def _applied(change: Change, weight: Any) -> Any:
    """A weight with an adapter merged into it, in double precision (peft/tuners/lora/layer.py, get_delta_weight; dora.py)."""
    from safetensors import safe_open

    with safe_open(str(Path(change.folder, "adapter_model.safetensors")), framework="pt") as file:
        stem = f"base_model.model.{change.module}"
        down, up = (file.get_tensor(f"{stem}.{part}.weight").double() for part in ("lora_A", "lora_B"))
        delta = change.scale * (up @ down)
        merged = weight + (delta.T if change.config.get("fan_in_fan_out") else delta)
        if not change.config.get("use_dora"):
            return merged
        magnitude = file.get_tensor(f"{stem}.lora_magnitude_vector").double()
        return merged * (magnitude / merged.norm(dim=1)).unsqueeze(1)


def reload(made: Path) -> str:
    """Every tensor that the model's class wants is there, and finite; what was seen, as a sentence. Raises: StageError."""
    import transformers

    size = sum(path.stat().st_size for path in made.glob("*.safetensors"))
    if size > 0.8 * free_memory():
        return "not loaded again: it does not fit into the memory that is free"
    if "auto_map" in json.loads((made / "config.json").read_text(encoding="utf-8")):
        return "not loaded again: its code comes with the model"
    try:
        config = transformers.AutoConfig.from_pretrained(made)
        kind = getattr(transformers, (config.architectures or ["AutoModelForCausalLM"])[0], None)
        if kind is None:
            return "not loaded again: its class comes with the model"
        model, info = kind.from_pretrained(made, output_loading_info=True)
    except ImportError as error:
        return f"not loaded again: {str(error).strip().splitlines()[0]}"
    except Exception as error:
        text = f"what was made cannot be loaded again: {type(error).__name__}: {error}"
        raise StageError(text[:600], "to", "model", code="FT970") from error
    lost = sorted(info["missing_keys"])
    if lost or info.get("mismatched_keys"):
        names = ", ".join(f"`{name}`" for name in lost[:3]) or "tensors of another shape"
        raise StageError(f"what was made is not whole: {names} of {len(lost)}", "to", "shards", code="FT970")
    bad = [name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all())]
    if bad:
        raise StageError(f"what was made holds numbers that are none, in `{bad[0]}`", "dtype", "to", code="FT970")
    return "loaded again"


def free_memory() -> float:
    """Bytes of main memory that are free; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024
    except (OSError, StopIteration):
        return math.inf
