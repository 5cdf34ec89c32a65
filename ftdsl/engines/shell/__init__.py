"""Values put into an author's bash code, so that each stays one word and none becomes code."""

from ftdsl.engines.shell.frames import Hole, RefusedError
from ftdsl.engines.shell.reader import with_values

__all__ = ["Hole", "RefusedError", "with_values"]
