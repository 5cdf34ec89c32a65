"""Where stages are started: `launcher.py` says what a launcher is, `local.py` is this machine."""
