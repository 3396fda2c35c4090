"""Checkpoints: complete copies of the state at one applied index, made of hard links.

    checkpoints/00000000000000004711/   a RocksDB directory, and `BASE`: index, term and membership it stands for

A checkpoint exists once it has its name, and is never changed. It costs no space while the store still has the same
files. Sending a snapshot, a backup, a check of the whole namespace read a checkpoint, so they never hold up writers.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blockyard.metaserver.raft.types import BaseRecord, LogIndex
from blockyard.metaserver.storage.failures import CorruptSnapshot
from blockyard.metaserver.storage.record import decode_base, encode_base
from blockyard.metaserver.storage.segment import files_below
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import failpoints
from blockyard.proto import raft_pb2 as pb
from blockyard.proto.disk import sealed_file
from blockyard.proto.disk.sync import sync_directory
from google.protobuf.message import DecodeError

BASE: Final = "BASE"
UNFINISHED: Final = ".unfinished"

_NOT_CONTENT: Final = ("LOCK", "LOG", BASE)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    path: Path
    base: BaseRecord

    def files(self) -> list[Path]:
        """Return the files that make up the state, by name."""
        return [file for file in files_below(self.path) if not file.name.startswith(_NOT_CONTENT)]

    def size_bytes(self) -> int:
        """Return the bytes of its files, whoever else links to them."""
        return sum(file.stat().st_size for file in self.files())

    @staticmethod
    def open(path: Path) -> "Checkpoint":
        """Return the checkpoint in `path`. Raises CorruptSnapshot."""
        try:
            message = pb.BaseRecordMessage.FromString(sealed_file.read(path / BASE))
            return Checkpoint(path, decode_base(message))
        except (OSError, sealed_file.BadFile, DecodeError, ValueError) as error:
            raise CorruptSnapshot(
                f"{path} is not a complete checkpoint: {error}. Delete it and take another."
            ) from error

    def seal(self) -> None:
        """Make it durable and complete: every file, then `BASE`. Raises OSError."""
        for file in self.files():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
        sync_directory(self.path)
        failpoints.hit("snapshot.verified")
        sealed_file.write(self.path / BASE, encode_base(self.base).SerializeToString(deterministic=True))


class Checkpoints:
    """The checkpoints of one data directory."""

    def __init__(self, path: Path) -> None:
        """Use directory `path`, which is made when missing; what an interrupted process left there is removed."""
        path.mkdir(exist_ok=True)
        self.path = path
        for name in os.listdir(path):
            if name.endswith(UNFINISHED):
                shutil.rmtree(path / name)

    def create(self, store: StateStore, describe: Callable[[LogIndex], BaseRecord]) -> Checkpoint:
        """Make a checkpoint of the store as it is; return it. `describe` gives the base record of an applied index.

        One thread at a time. One of the same index is returned as it is. Raises StorageFailed and OSError.
        """
        unfinished = self.path / f"new{UNFINISHED}"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        base = describe(store.checkpoint(unfinished))
        final = self.path / f"{base.index:020d}"
        if final.exists():
            shutil.rmtree(unfinished)
            return Checkpoint.open(final)
        Checkpoint(unfinished, base).seal()
        failpoints.hit("checkpoint.created")
        os.rename(unfinished, final)
        failpoints.hit("checkpoint.renamed")
        sync_directory(self.path)
        return Checkpoint(final, base)

    def list(self) -> list[Checkpoint]:
        """Return the checkpoints, oldest first. Raises CorruptSnapshot."""
        return [Checkpoint.open(self.path / name) for name in sorted(os.listdir(self.path)) if name.isdigit()]

    def delete(self, checkpoint: Checkpoint) -> None:
        """Remove a checkpoint; interrupted, none of it is left at the next start."""
        doomed = checkpoint.path.with_name(checkpoint.path.name + UNFINISHED)
        os.rename(checkpoint.path, doomed)
        shutil.rmtree(doomed)
