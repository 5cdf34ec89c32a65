"""ftdsl: a small language for LLM fine-tuning, and the compiler that turns it into what the field already runs."""

__version__ = "0.1.0"
