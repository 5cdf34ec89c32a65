"""The command line, one module per verb.

Given: arguments. Gives: text or JSON on stdout, messages on stderr, an exit status. Knows: argparse, terminals and signals.
"""
