"""Judges: pure functions from `Curves` to what is wrong, or None. Importing the package imports them all, in their order."""

from ftdsl.diagnose.judges import broken, noise, fit, rate, preferences  # isort: skip

__all__ = ["broken", "fit", "noise", "preferences", "rate"]
