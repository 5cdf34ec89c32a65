"""Launchers: where stages are started. `launcher.py` is the interface, `local.py` starts them on this machine."""
