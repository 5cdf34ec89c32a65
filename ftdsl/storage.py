"""All writing, linking and removing of files by ftc. Imports nothing of ftdsl.

A file is written under a random temporary name in its folder, synced and renamed, and the folder is synced, so that neither a
reader nor a crash sees a partial file. Folders below `root` are opened one by one without following links, so that a link in a
cloned repository cannot lead out of `root`. `root` itself and the folders above it are trusted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePosixPath

PARALLEL = 8
"""Number of files from which on they are synced in parallel, which takes a disk about as long as one."""

TOGETHER = 128
"""Maximum number of open files."""

_LINK = "is a link, and ftc does not write through links"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotWrittenError(OSError):
    """The target is a link or not a regular file, or the path leads out of its root. `filename` is the path."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(errno.ELOOP, why, str(path))


def sentence(error: OSError) -> str:
    """What could not be read or written, why, and what to do where the disk is full."""
    why = (error.strerror or str(error)).lower()
    if error.errno == errno.EEXIST and why == os.strerror(errno.EEXIST).lower():  # of a folder that was to be made
        why = "is not a folder"
    text = f"{error.filename or 'a file'}: {why}"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{text}; free some space (`ftc clean` shows what can go), then type the same again" if full else text


def write_file(path: Path, content: bytes, *, root: Path | None = None, new: bool = False) -> None:
    """Write a file, unless it has the same content already. new: it must not exist.

    An existing file keeps its mode; a new one gets 0666 (a script, `.sh`: 0777) without the umask.
    root: no link below it is followed (default: the folder of the file).

    Raises: NotWrittenError, FileExistsError (`new`), OSError.
    """
    base = path.parent if root is None else root
    write_files(base, {path.relative_to(base).as_posix(): content}, new=new)


def write_files(root: Path, files: Mapping[str, bytes], *, new: bool = False) -> None:
    """Write files by their paths below `root`. All are synced first, and then renamed in the given order.

    Raises: as write_file.
    """
    _make_root(root)
    items = iter(files.items())
    while batch := dict(islice(items, TOGETHER)):
        _write_together(root, batch, new=new)


def _write_together(root: Path, files: Mapping[str, bytes], *, new: bool) -> None:
    pending: list[_Pending] = []
    try:
        for name, content in files.items():
            if (file := _begin(root, name, content)) is not None:
                pending.append(file)
        _sync([file.descriptor for file in pending])
        for file in pending:
            file.finish(new=new)
        for folder in {(file.device, file.inode): file.folder for file in pending}.values():
            _sync_folder(folder)
    finally:
        for file in pending:
            file.close()


def _make_root(root: Path) -> None:
    if not root.is_dir():
        root.mkdir(parents=True, exist_ok=True)


class _Pending:
    """A file under its temporary name. `folder` and `descriptor` are file descriptors."""

    def __init__(self, path: Path, folder: int, name: str, temporary: str, descriptor: int) -> None:
        self.path, self.folder, self.name, self.temporary, self.descriptor = path, folder, name, temporary, descriptor
        status = os.fstat(folder)
        self.device, self.inode = status.st_dev, status.st_ino
        self.done = False

    def finish(self, *, new: bool) -> None:
        """Rename it to its final name. Raises: FileExistsError, OSError."""
        if new:
            self._claim()
        os.rename(self.temporary, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        self.done = True

    def _claim(self) -> None:
        """Create the name exclusively; the rename then replaces this empty file."""
        try:
            os.close(os.open(self.name, _NEW, 0o600, dir_fd=self.folder))
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "exists already", str(self.path)) from None

    def close(self) -> None:
        if not self.done:
            with contextlib.suppress(OSError):
                os.unlink(self.temporary, dir_fd=self.folder)
        os.close(self.descriptor)
        os.close(self.folder)


def _begin(root: Path, name: str, content: bytes) -> _Pending | None:
    """Write the content under a temporary name in the file's folder; None if the file has it already."""
    *above, last = _parts(root, name)
    folder = _enter(root, above, create=True)
    try:
        existing = _existing(folder, last, root / name)
        if existing is not None and existing.st_size == len(content) and _same(folder, last, content):
            os.close(folder)
            return None
        temporary = f".ftc-{os.urandom(8).hex()}"
        descriptor = os.open(temporary, _NEW, 0o777 if last.endswith(".sh") else 0o666, dir_fd=folder)
    except BaseException:
        os.close(folder)
        raise
    pending = _Pending(root / name, folder, last, temporary, descriptor)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as handle:
            handle.write(content)
        if existing is not None:
            _as_before(descriptor, existing)
    except OSError as error:
        pending.close()
        if error.filename:
            raise
        raise OSError(error.errno, error.strerror, str(pending.path)) from error
    except BaseException:
        pending.close()
        raise
    return pending


def _as_before(descriptor: int, existing: os.stat_result) -> None:
    """Copy the owner (if permitted) and mode of the replaced file."""
    created = os.fstat(descriptor)
    if (created.st_uid, created.st_gid) != (existing.st_uid, existing.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, existing.st_uid, existing.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(existing.st_mode) & 0o777)


def _parts(root: Path, name: str) -> tuple[str, ...]:
    """The parts of a path. Raises: NotWrittenError if it leads out of the root, or is empty."""
    parts = PurePosixPath(name).parts
    if not is_inside(name):
        raise NotWrittenError(root / name, "leads out of the folder")
    return parts


def is_inside(name: str) -> bool:
    """Whether a relative path stays inside its folder, judged by its text."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _enter(root: Path, folders: list[str], *, create: bool) -> int:
    """A descriptor of a folder below `root`, without following links. Raises: NotWrittenError, OSError."""
    at = os.open(root, _FOLDER)
    path = root
    for name in folders:
        path = path / name
        try:
            inner = _open_folder(at, name, create=create)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise NotWrittenError(path, _no_folder(at, name)) from None
            raise OSError(error.errno, error.strerror, str(path)) from None
        finally:
            os.close(at)
        at = inner
    return at


def _open_folder(at: int, name: str, *, create: bool) -> int:
    """Raises: OSError, with ELOOP or ENOTDIR for a link."""
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
    except FileNotFoundError:
        if not create:
            raise
    with contextlib.suppress(FileExistsError):  # another process was faster
        os.mkdir(name, dir_fd=at)
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)


def _no_folder(at: int, name: str) -> str:
    link = stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    return _LINK if link else "is not a folder"


def _existing(folder: int, name: str, path: Path) -> os.stat_result | None:
    """The status of an existing file; None if there is none. Raises: NotWrittenError if it is not a regular file."""
    try:
        existing = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    if stat.S_ISLNK(existing.st_mode):
        raise NotWrittenError(path, _LINK)
    if not stat.S_ISREG(existing.st_mode):
        raise NotWrittenError(path, "is not a regular file")
    return existing


def _same(folder: int, name: str, content: bytes) -> bool:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as handle:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and handle.read(len(content) + 1) == content


def _sync(files: list[int]) -> None:
    if len(files) < PARALLEL:
        for file in files:
            os.fsync(file)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(os.fsync, files))


def _sync_folder(folder: int) -> None:
    """Sync a folder; file systems that do not support it are ignored."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise


def make_folder(root: Path, name: str) -> None:
    """Create a folder below `root` (`.`: root itself) with its parents. Raises: NotWrittenError, OSError."""
    _make_root(root)
    os.close(_enter(root, [] if name == "." else list(_parts(root, name)), create=True))


def remove_files(root: Path, names: list[str]) -> None:
    """Remove files below `root`, and folders that become empty. Links, and files behind links, are kept.

    Raises: OSError.
    """
    for name in names:
        if is_inside(name):
            _remove(root, list(PurePosixPath(name).parts))


def _remove(root: Path, parts: list[str]) -> None:
    for depth in range(len(parts), 0, -1):
        *above, last = parts[:depth]
        try:
            folder = _enter(root, above, create=False)
        except (FileNotFoundError, NotWrittenError):
            return
        try:
            if depth < len(parts):
                os.rmdir(last, dir_fd=folder)
            elif stat.S_ISREG(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(last, dir_fd=folder)
            else:
                return
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
                return
            raise OSError(error.errno, error.strerror, str(root.joinpath(*parts[:depth]))) from None
        finally:
            os.close(folder)


def write_link(root: Path, name: str, target: str) -> None:
    """Create a symbolic link below `root`; only an existing link is replaced. Raises: NotWrittenError, OSError."""
    *above, last = _parts(root, name)
    _make_root(root)
    folder = _enter(root, above, create=True)
    temporary = f".ftc-{os.urandom(8).hex()}"
    try:
        try:
            if os.readlink(last, dir_fd=folder) == target:
                return
        except FileNotFoundError:
            pass
        except OSError:
            raise NotWrittenError(root / name, "exists already, and is not a link") from None
        os.symlink(target, temporary, dir_fd=folder)
        os.rename(temporary, last, src_dir_fd=folder, dst_dir_fd=folder)
        _sync_folder(folder)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        os.close(folder)


def open_to_append(path: Path, *, readable: bool = False) -> int:
    """A descriptor that appends to a regular file, which is created if missing.

    Raises: NotWrittenError, OSError.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    flags |= os.O_RDWR if readable else os.O_WRONLY
    try:
        file = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            link = error.errno == errno.ELOOP
            raise NotWrittenError(path, _LINK if link else "is not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotWrittenError(path, "is not a regular file")
    os.set_blocking(file, True)
    return file


def read_file(path: Path) -> bytes:
    """The content of a regular file; pipes and devices are refused. Raises: OSError."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as handle:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise NotWrittenError(path, "is not a regular file")
        return handle.read()
