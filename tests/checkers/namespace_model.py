"""A directory as a sequential object: create O_EXCL, mkdir, link, unlink, rmdir, rename, readdir, stat.

Answers are what the Linux calls answer: an errno name such as "EEXIST", or the value. Inodes are named by a token that
the *caller* chooses for each create (kept, for instance, in the file's mtime or its content), because an inode number
is chosen by the server and an answer that was lost would leave it unknown. Subdirectories are leaves here: each
directory is checked alone, so all of them count as empty.
Source: link(2), mkdir(2), open(2), rename(2), rmdir(2), unlink(2); POSIX.1-2017.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple


class Inode(NamedTuple):
    kind: str  # "file" or "directory"
    token: Hashable


class Attributes(NamedTuple):
    kind: str
    token: Hashable
    nlink: int


@dataclass(frozen=True, slots=True)
class Create:
    """open(name, O_CREAT | O_EXCL)."""

    name: str
    token: Hashable
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Mkdir:
    name: str
    token: Hashable
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Link:
    existing: str
    name: str
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Unlink:
    name: str
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Rmdir:
    name: str
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Rename:
    source: str
    target: str
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Readdir:
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Stat:
    name: str
    directory: str = "/"


Action = Create | Mkdir | Link | Unlink | Rmdir | Rename | Readdir | Stat
Result = str | None | Attributes | frozenset[str]  # errno name, done, the attributes, the names
State = frozenset[tuple[str, Inode]]


def directory_of(action: Action) -> str:
    """Split a history with this: directories are independent objects."""
    return action.directory


class DirectoryModel:
    """One directory. Changes answer None when done, else an errno name, which means that nothing changed."""

    def initial(self) -> State:
        return frozenset()

    def apply(self, state: State, action: Action) -> tuple[State, Result]:
        names = dict(state)
        match action:
            case Stat():
                return state, self._stat(names, action.name)
            case Readdir():
                return state, frozenset(names)
            case Create():
                error = self._insert(names, action.name, Inode("file", action.token))
            case Mkdir():
                error = self._insert(names, action.name, Inode("directory", action.token))
            case Link():
                error = self._link(names, action)
            case Unlink():
                error = self._drop(names, action.name, "file", "EISDIR")
            case Rmdir():
                error = self._drop(names, action.name, "directory", "ENOTDIR")
            case Rename():
                error = self._rename(names, action)
        return (state, error) if error else (frozenset(names.items()), None)

    def may_answer(self, state: State, action: Action, result: object) -> bool:
        return True

    def _stat(self, names: dict[str, Inode], name: str) -> str | Attributes:
        inode = names.get(name)
        if inode is None:
            return "ENOENT"
        nlink = 2 if inode.kind == "directory" else sum(other == inode for other in names.values())
        return Attributes(inode.kind, inode.token, nlink)

    def _insert(self, names: dict[str, Inode], name: str, inode: Inode) -> str | None:
        if name in names:
            return "EEXIST"
        names[name] = inode
        return None

    def _link(self, names: dict[str, Inode], action: Link) -> str | None:
        inode = names.get(action.existing)
        if inode is None:
            return "ENOENT"
        if action.name in names:
            return "EEXIST"
        if inode.kind == "directory":
            return "EPERM"
        names[action.name] = inode
        return None

    def _drop(self, names: dict[str, Inode], name: str, kind: str, wrong_kind: str) -> str | None:
        inode = names.get(name)
        if inode is None:
            return "ENOENT"
        if inode.kind != kind:
            return wrong_kind
        del names[name]
        return None

    def _rename(self, names: dict[str, Inode], action: Rename) -> str | None:
        inode = names.get(action.source)
        if inode is None:
            return "ENOENT"
        target = names.get(action.target)
        if target == inode:
            return None  # two names of one inode: rename(2) does nothing and both names stay
        if target is not None and target.kind != inode.kind:
            return "EISDIR" if target.kind == "directory" else "ENOTDIR"
        del names[action.source]
        names[action.target] = inode
        return None
