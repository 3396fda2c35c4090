"""Whole directory trees: made, walked, matched, removed."""

import os
import re
from collections.abc import Iterator
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Final

from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb

if TYPE_CHECKING:
    from blockyard.client.filesystem import Filesystem

_REMOVED_AT_ONCE: Final = 1_000
_MAGIC: Final = re.compile(r"[*?[]")


def makedirs(filesystem: "Filesystem", path: Any, mode: int, exist_ok: bool) -> None:
    """Like `os.makedirs`."""
    head, tail = os.path.split(path.rstrip(b"/" if isinstance(path, bytes) else "/"))
    if head and tail and not filesystem.exists(head):
        try:
            makedirs(filesystem, head, 0o777, True)
        except FileExistsError:
            pass  # another makes the same; what is wrong with it is seen below
    try:
        filesystem.mkdir(path, mode)
    except FileExistsError:
        if not exist_ok or not filesystem.isdir(path):
            raise


def walk(
    filesystem: "Filesystem", top: str, topdown: bool, followlinks: bool
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like `os.walk`: directories that cannot be listed are passed over."""
    directories: list[str] = []
    files: list[str] = []
    try:
        entries = sorted(filesystem.scandir(top), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        (directories if entry.is_dir() else files).append(entry.name)
    if topdown:
        yield top, directories, files
    for name in directories:
        path = os.path.join(top, name)
        if followlinks or not filesystem.islink(path):
            yield from walk(filesystem, path, topdown, followlinks)
    if not topdown:
        yield top, directories, files


def glob(filesystem: "Filesystem", pattern: str) -> Iterator[str]:
    """Yield the paths that match `pattern`: `*`, `?` and `[…]` within a name, `**` for any directories."""
    rooted = pattern.startswith("/")
    parts = [part for part in pattern.split("/") if part]
    yield from dict.fromkeys(_matches(filesystem, "/" if rooted else "", parts))


def _matches(filesystem: "Filesystem", directory: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield directory
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(filesystem, directory, rest) if rest else iter([directory] if directory else [])
        for entry in _entries(filesystem, directory):
            path = os.path.join(directory, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _matches(filesystem, path, parts)
            elif not rest:
                yield path
    elif not _MAGIC.search(part):
        path = os.path.join(directory, part)
        if filesystem.isdir(path) if rest else filesystem.lexists(path):
            yield from _matches(filesystem, path, rest)
    else:
        fits = re.compile(translate(part)).match
        for entry in _entries(filesystem, directory):
            hidden = entry.name.startswith(".") and not part.startswith(".")
            if not hidden and fits(entry.name) and (not rest or entry.is_dir()):
                yield from _matches(filesystem, os.path.join(directory, entry.name), rest)


def _entries(filesystem: "Filesystem", directory: str) -> list[Any]:
    try:
        return sorted(filesystem.scandir(directory or "/"), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def rmtree(filesystem: "Filesystem", path: bytes) -> None:
    """Remove a directory and everything below it; symlinks are removed, not followed. Raises the first error."""
    names = filesystem.engine.link.namespace
    with filesystem.about(path):
        parent, name = names.find_parent(path)
        found = names.find(path, follow=False)
        if found.type != pb.FILE_TYPE_DIRECTORY:
            raise errors.NotDirectory("it is no directory")
    _empty(filesystem, found.inode, path)
    with filesystem.about(path):
        names.remove(parent, name, directory=True)


def _empty(filesystem: "Filesystem", inode: int, path: bytes) -> None:
    """Remove what is in a directory: deepest first, many names in one call."""
    names = filesystem.engine.link.namespace
    while True:
        with filesystem.about(path):
            entries = list(names.entries(inode))
        for entry in entries:
            if entry.type == pb.FILE_TYPE_DIRECTORY:
                _empty(filesystem, entry.inode, os.path.join(path, entry.name))
        for start in range(0, len(entries), _REMOVED_AT_ONCE):
            _remove(filesystem, inode, path, entries[start : start + _REMOVED_AT_ONCE])
        if len(entries) == 0:
            return


def _remove(filesystem: "Filesystem", inode: int, path: bytes, entries: list[pb.DirectoryEntry]) -> None:
    names = filesystem.engine.link.namespace
    outcomes = names.batch([_removal(inode, entry) for entry in entries])
    for entry, outcome in zip(entries, outcomes, strict=True):
        names.named(inode, entry.name, None)
        if outcome.HasField("error") and outcome.error.kind not in ("NotFound", "NotEmpty"):  # others were faster
            with filesystem.about(os.path.join(path, entry.name)):
                raise errors.from_detail(outcome.error)


def _removal(parent: int, entry: pb.DirectoryEntry) -> pb.Operation:
    if entry.type == pb.FILE_TYPE_DIRECTORY:
        return pb.Operation(remove_directory=pb.RemoveDirectoryRequest(parent=parent, name=entry.name))
    return pb.Operation(unlink=pb.UnlinkRequest(parent=parent, name=entry.name))
