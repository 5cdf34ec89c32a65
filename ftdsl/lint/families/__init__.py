"""The rules, one file a family. Every rule states what it does in a docstring whose example the tests run."""
