"""Training with TRL and PEFT: rows to token ids, models with adapters, trainers. Used by `runtime/trl.py`."""
