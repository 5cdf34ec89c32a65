"""Files as ftc writes them: whole, synced, with the mode of before or of the umask, and never through a link."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftdsl import storage
from ftdsl.storage import NotWrittenError, remove_files, write_file, write_files, write_link


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("umask", "plain", "script"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_a_new_file_has_what_the_umask_leaves(umask: int, plain: int, script: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_files(tmp_path, {"a.yaml": b"a", "b.sh": b"b"})
    finally:
        os.umask(before)
    assert mode(tmp_path / "a.yaml") == plain
    assert mode(tmp_path / "b.sh") == script


@pytest.mark.parametrize("own", [0o600, 0o640, 0o755, 0o444])
def test_a_file_keeps_its_mode(own: int, tmp_path: Path) -> None:
    path = tmp_path / "r.ft"
    path.write_bytes(b"before")
    path.chmod(own)
    write_file(path, b"after")
    assert (path.read_bytes(), mode(path)) == (b"after", own)


def test_what_is_equal_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, b"same")
    inode = path.stat().st_ino
    write_file(path, b"same")
    assert path.stat().st_ino == inode
    write_file(path, b"other")
    assert path.stat().st_ino != inode, "replaced, not written over: a reader of the old one keeps it whole"


@pytest.mark.parametrize("count", [1, storage.PARALLEL + 1, 3 * storage.TOGETHER + 5])
def test_many_files_need_few_descriptors_and_leave_nothing_else(count: int, tmp_path: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir()))  # by whatever else runs in this process
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * storage.TOGETHER + 100 + open_now, limits[1]))
    try:
        files = {f"{number % 7}/in/{number}.json": str(number).encode() for number in range(count)}
        write_files(tmp_path / "new" / "root", files)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    root = tmp_path / "new" / "root"
    assert {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize("kind", ["file", "dangling", "folder", "loop"])
def test_a_link_in_the_files_place_is_refused(kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    if kind == "file":
        victim.write_bytes(b"mine")
    if kind == "folder":
        victim.mkdir()
    place = tmp_path / "root" / "a"
    place.parent.mkdir()
    place.symlink_to("a" if kind == "loop" else victim)
    with pytest.raises(NotWrittenError, match="is a link"):
        write_file(place, b"planted")
    assert place.is_symlink()
    assert not victim.exists() or kind == "folder" or victim.read_bytes() == b"mine"
    assert names(place.parent) == ["a"], "no temporary file is left"


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_folder_on_the_way_is_a_link(depth: int, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    root = tmp_path / "root"
    parts = ["a", "b", "c"]
    link = root.joinpath(*parts[: depth + 1])
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    with pytest.raises(NotWrittenError, match="is a link"):
        write_files(root, {"a/b/c/file": b"x"})
    assert not list(victim.iterdir())


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to("disk")
    write_files(tmp_path / "runs", {"a/b": b"x"})
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "", ".", "a/..", "a\0b"])
def test_no_path_leads_out(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(NotWrittenError):
        write_files(root, {name: b"x"})
    remove_files(root, [name])
    assert [p.name for p in tmp_path.iterdir()] == ["root"]


def test_what_waits_for_a_reader_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotWrittenError, match="not a regular file"):
        write_file(tmp_path / "pipe", b"x")
    with pytest.raises(NotWrittenError, match="not a regular file"):
        storage.read_file(tmp_path / "pipe")
    with pytest.raises(NotWrittenError, match="not a regular file"):
        storage.open_to_append(tmp_path / "pipe")


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"first", new=True)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", b"second", new=True)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_removing_stays_inside(tmp_path: Path) -> None:
    victim, root = tmp_path / "victim", tmp_path / "root"
    victim.mkdir()
    (victim / "precious").write_text("mine")
    write_files(root, {"own/a": b"", "own/deep/b": b"", "kept/c": b""})
    (root / "link").symlink_to(victim)
    (root / "file-link").symlink_to(victim / "precious")
    remove_files(
        root, ["own/a", "own/deep/b", "link/precious", "file-link", "gone/x", "kept/c/d", "../victim/precious"]
    )
    assert (victim / "precious").read_text() == "mine"
    assert sorted(p.name for p in root.iterdir()) == ["file-link", "kept", "link"]


def test_a_link_replaces_only_a_link(tmp_path: Path) -> None:
    write_link(tmp_path, "last", "one")
    write_link(tmp_path, "last", "two")
    assert str((tmp_path / "last").readlink()) == "two"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotWrittenError):
        write_link(tmp_path, "file", "two")
    assert names(tmp_path) == ["file", "last"]


def test_appending_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "log").symlink_to("victim")
    with pytest.raises(NotWrittenError):
        storage.open_to_append(tmp_path / "log")
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_runs_events_go_through_no_link(tmp_path: Path) -> None:
    from ftdsl.run.events import EventLog

    (tmp_path / "victim").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").symlink_to("../victim")
    with pytest.raises(NotWrittenError):
        EventLog(tmp_path / "run").append({"event": "x"})
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Whatever the moment, a reader finds one of the contents, whole. The writer is killed while it writes: it says when a
    write begins, and none ends within the pauses."""
    path = tmp_path / "state.json"
    sizes = (20_000, 8_000_000)
    path.write_bytes(b"a" * sizes[0])
    code = (
        "import sys; from pathlib import Path; from ftdsl.storage import write_file\n"
        f"while True:\n  for size in {sizes}: print(size, flush=True); write_file(Path(sys.argv[1]), b'a' * size)\n"
    )
    for pause in (0.0, 0.0005, 0.001, 0.002, 0.004):
        with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while process.stdout.readline() != b"%d\n" % sizes[1]:
                pass
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        assert path.stat().st_size in sizes
