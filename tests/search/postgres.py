"""A PostgreSQL server of the tests' own: in a folder of its own, reached by a socket there, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


def binaries() -> Path:
    """The folder of `initdb`. Its absence fails the tests: they are what shows that several workers share a study."""
    folders = [
        *map(Path, os.environ.get("PATH", "").split(":")),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    ]
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    raise AssertionError("these tests start a PostgreSQL server; type: apt-get install postgresql")


@contextmanager
def server() -> Iterator[str]:
    """The address of an empty database."""
    folder, home = binaries(), Path(tempfile.mkdtemp(prefix="ftc-pg-", dir="/tmp"))
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
    if user:
        os.chown(home, NOBODY, NOBODY)

    def command(name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*user, str(folder / name), *arguments], cwd=home, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout

    data = home / "data"
    command("initdb", "-D", str(data), "-U", "study", "-A", "trust", "-N")
    options = f"-c listen_addresses='' -c unix_socket_directories={home} -c fsync=off"
    command("pg_ctl", "-D", str(data), "-l", str(home / "log"), "-w", "-o", options, "start")
    try:
        yield f"postgresql:///postgres?host={home}&user=study"
    finally:
        command("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)
