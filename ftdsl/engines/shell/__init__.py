"""Bash code of `shell` stages.

Given: the author's code with names in it. Gives: the code with a quoted expansion for each name, or a refusal where its value
would become code. Knows: how bash quotes and which commands run their arguments as code.
"""

from ftdsl.engines.shell.frames import Hole, RefusedError
from ftdsl.engines.shell.reader import with_values

__all__ = ["Hole", "RefusedError", "with_values"]
