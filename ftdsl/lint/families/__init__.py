"""The rules, one module per family. Each rule has a docstring whose examples the tests run."""
