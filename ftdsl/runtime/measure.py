"""What training took: seconds of a step, peak memory, how long its rows were. One event, once training has ended.

Seconds count from the end of one step, or of the saving and scoring after it, to the end of the next. The engine's process is
measured from outside: its peak memory by Linux, and on a GPU by torch's allocator.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from typing import Any

WARM_UP = 2
"""Steps at the start that are not counted where there are others: kernels are chosen, memory is fetched."""


class Meter:
    """Watches the training of one process. `measured` gives what was seen, or nothing where no step was."""

    def __init__(self) -> None:
        self.since = 0.0
        self.loaded = 0
        self.computed = 0.0
        self.spent: list[float] = []
        self.busy: list[float] = []
        self.tokens: list[int] = []
        self.longest = self.rows = self.width = 0
        self._seen = 0
        self._hook: Any = None

    def begin(self, model: Any) -> None:
        """Training starts: memory in use is the model and imported modules."""
        self.loaded = peak_rss()
        if hasattr(model, "register_forward_pre_hook"):
            self._hook = model.register_forward_pre_hook(self._look, with_kwargs=True)
        self.again()

    def again(self) -> None:
        """The clock starts: saving or scoring is over."""
        self.since, self.computed = time.monotonic(), time.process_time()

    def step(self) -> None:
        """A step has ended."""
        self.spent.append(time.monotonic() - self.since)
        self.busy.append(time.process_time() - self.computed)
        self.tokens.append(self._seen)
        self._seen = 0
        self.again()

    def _look(self, module: Any, _args: Any, kwargs: Any) -> None:
        import torch

        if not torch.is_grad_enabled():
            return  # answers are being written, or scored, and not learned from
        shape = [int(size) for size in getattr(kwargs.get("input_ids"), "shape", ())]
        if module.training and len(shape) == 2:
            rows, width = shape
            self._seen += rows * width
            if rows * width > self.longest:
                self.longest, self.rows, self.width = rows * width, rows, width

    def measured(self) -> dict[str, Any]:
        """The fields of an event `measured`: bytes, seconds, tokens with their padding; `longest`: of the largest micro-batch,
        `width` of its rows.
        """
        if self._hook is not None:
            self._hook.remove()
        at = WARM_UP if len(self.spent) > 2 * WARM_UP else 0
        if not self.spent:
            return {}
        fields = {
            "steps": len(self.spent),
            "step_seconds": round(statistics.median(self.spent[at:]), 5),
            "tokens": statistics.median(self.tokens[at:]),
            "longest": self.longest, "width": self.width,
            "loaded_bytes": self.loaded, "rss_bytes": peak_rss(),
        }  # fmt: skip
        return {**fields, **_device(statistics.median(self.busy[at:]))}


def peak_rss() -> int:
    """Bytes of main memory that this process has held at most. Linux's own figure is of this program alone; getrusage(2), KiB
    on Linux and bytes on macOS, also counts what started it.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as handle:
            return next(int(line.split()[1]) * 1024 for line in handle if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_now() -> dict[str, int]:
    """Bytes that this process holds now: on a GPU what torch's allocator has reserved, with the size of the GPU, else of main
    memory; empty where neither is known.
    """
    import torch

    if torch.cuda.is_available():
        at = torch.cuda.current_device()
        total = int(torch.cuda.get_device_properties(at).total_memory)
        return {"memory_bytes": int(torch.cuda.memory_reserved(at)), "memory_total_bytes": total}
    try:
        with open("/proc/self/statm", encoding="ascii") as handle:
            return {"memory_bytes": int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")}
    except (OSError, ValueError, IndexError):
        return {}


def _device(busy: float) -> dict[str, Any]:
    """The device: the GPU by its driver's name with its allocator's peak, or the CPU's threads and the seconds of a step
    in which they computed, which other work on the machine does not lengthen.
    """
    import torch

    if torch.cuda.is_available():
        at = int(os.environ.get("LOCAL_RANK", "0"))
        return {
            "device": torch.cuda.get_device_name(at),
            "allocated_bytes": torch.cuda.max_memory_allocated(at),
            "reserved_bytes": torch.cuda.max_memory_reserved(at),
        }
    threads = torch.get_num_threads()
    return {"device": "cpu", "threads": threads, "busy_seconds": round(busy / threads, 5)}
