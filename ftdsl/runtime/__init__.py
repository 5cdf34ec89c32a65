"""Code that runs under the engine's Python. Copied next to a run and run by path: imports nothing of ftdsl."""
