"""The language server: what the compiler knows, at the cursor.

Given: texts of an editor, positions in them. Gives: diagnostics, hovers, completions, edits as LSP types. Knows: the phases
of `pipeline`, and where a cursor is. It reads through `session`, writes nothing, starts nothing; `server.py` alone talks LSP's
protocol (pygls).
"""
