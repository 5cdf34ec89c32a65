"""A mixin for transformers' Trainer and its subclasses: the load-balance loss of a mixture of adapters, and what its gates do."""

from __future__ import annotations

from typing import Any

from . import tuners


class Balanced:
    """Adds the load-balance loss to that of each micro-batch; logs `balance_loss`, `gate_entropy` and `expert_load/…`."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._balance: list[float] = []

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        tuners.forget(model)
        outputs = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        added = tuners.balance_loss(model) if model.training else None
        if added is None:
            return outputs
        self._balance.append(float(added.detach()))
        added = added / self._parts(kwargs.get("num_items_in_batch"))
        return (outputs[0] + added, *outputs[1:]) if isinstance(outputs, tuple) else outputs + added

    def _parts(self: Any, items: Any) -> int:
        """By what to divide, so that the micro-batches of a step add up to their mean: 1 where the Trainer divides
        (transformers/trainer.py, training_step).
        """
        scaled = getattr(self, "loss_is_scaled_for_ga", None)
        if scaled is None:
            scaled = (self.model_accepts_loss_kwargs and items is not None) or self.compute_loss_func is not None
        return int(self.current_gradient_accumulation_steps) if scaled else 1

    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            if self._balance:
                logs["balance_loss"] = sum(self._balance) / len(self._balance)
            self._balance.clear()
            logs |= tuners.routing_of(self.model)
        super().log(logs, *args, **kwargs)  # type: ignore[misc]
