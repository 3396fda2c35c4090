"""Named points in the code at which a test can make this process die, fail or wait.

`BLOCKYARD_FAILPOINTS="name=action,…"` arms them when the process starts; an action is `kill` (SIGKILL to oneself: no
handler, no flush, no goodbye), `error` (OSError EIO) or `sleep:milliseconds`, and `@n` after it means the n-th time the
point is reached and no other. Without the variable `hit` is a function that does nothing.

Invariant: every name is a row of `TABLE`, and every row is reached by some test.
"""

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "BLOCKYARD_FAILPOINTS"

TABLE: Final[Mapping[str, str]] = {
    "log.append.before": "a record of Raft's log is made and nothing of it is written",
    "log.append.written": "a record is in the page cache and not synced",
    "log.append.synced": "a record is synced and nobody knows",
    "log.roll.created": "a new segment of the log exists under its name and holds no record",
    "log.compact.dropping": "a new base record is synced; the segments before it are still there",
    "state.apply.before": "a batch of applied commands is made and not written",
    "state.apply.written": "a batch of applied commands and its applied index are written and not flushed",
    "state.flush.before": "the state is about to be flushed to disk",
    "state.flush.after": "the state is on disk; the log does not know it yet",
    "checkpoint.created": "a checkpoint is complete under a temporary name",
    "checkpoint.renamed": "a checkpoint has its name; the directory is not synced",
    "snapshot.part.written": "a part of a received snapshot is written",
    "snapshot.verified": "a received snapshot is complete and synced; its marker is not written",
    "snapshot.staged": "a received snapshot has its marker",
    "snapshot.logged": "the log begins after the snapshot; the old state is still current",
    "snapshot.switched": "the new state is current; the old one still exists",
    "write.opened": "a block is open on this node; its successor has not been told",
    "write.appended": "a piece of a block is written here and not passed on",
    "seal.forwarded": "the successor was asked to seal; this node has not begun to",
    "seal.sealed": "the block is sealed on every live node behind and here; nobody before knows",
    "seal.acknowledged": "the seal's answer has left",
    "put.received": "small blocks have arrived; nothing of them is written or passed on",
    "put.stored": "small blocks are stored here; whether the nodes behind have them is not known yet",
    "put.acknowledging": "every live node behind and this one have the small blocks; the answer has not left",
    "identity.written": "a new identity is written under a temporary name",
    "identity.renamed": "a new identity has its name; the directory is not synced",
    "store.append.before": "records of blocks are made and nothing of them is written",
    "store.append.written": "records of blocks are in the page cache and not synced",
    "store.append.synced": "records of blocks are synced; the index does not know them",
    "store.pack.created": "the next pack exists and holds no record; the one before it is not finished",
    "store.seal.synced": "a large block's file is synced under its temporary name; no record speaks of it",
    "store.seal.logged": "a large block is sealed in the log and the index; its file has not its own name yet",
    "store.seal.named": "a sealed file has its name; nobody was told",
    "store.drop.logged": "a drop is in the log and the index; the block's file is still there",
    "store.rebuild.begun": "the index was thrown away, to be made anew from the packs",
    "store.rebuild.replayed": "the index was made anew and is not on disk yet",
    "store.punch.filled": "fillers span the dropped records of a pack, synced; their pages are still there",
    "store.rewrite.copied": "the next generation of a pack is complete under a temporary name",
    "store.rewrite.renamed": "a rewritten pack has its name; the old one is there and the index knows only that",
    "store.rewrite.switched": "the index knows the rewritten pack; the old one is still there",
    "store.drop.renamed": "a dropped block's file has lost its name and still takes space",
}
"""Every failpoint: its name, and what is true when it is reached."""


@dataclass(slots=True)
class Armed:
    """What happens at one failpoint."""

    action: str
    sleep_s: float
    at_hit: int  # 0: every time
    hits: int = 0


class UnknownFailpoint(ValueError):
    """The variable, or the code, names a failpoint or an action that does not exist."""


def parse(text: str) -> dict[str, Armed]:
    """Return what `text`, the variable's content, arms. Raises UnknownFailpoint."""
    armed = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, rest = item.partition("=")
        action, _, at_hit = rest.partition("@")
        kind, _, milliseconds = action.partition(":")
        valid = kind in ("kill", "error") if not milliseconds else kind == "sleep" and milliseconds.isdigit()
        if name not in TABLE or not valid or not (at_hit.isdigit() or not at_hit):
            raise UnknownFailpoint(
                f"{VARIABLE}: {item!r} is not a failpoint of {', '.join(TABLE)} with kill, error or sleep:ms (and @n)"
            )
        armed[name] = Armed(kind, int(milliseconds or 0) / 1000, int(at_hit or 0))
    return armed


def _act(armed: Mapping[str, Armed], name: str) -> None:
    if name not in TABLE:
        raise UnknownFailpoint(f"failpoint {name!r} is not in the table of {__name__}")
    point = armed.get(name)
    if point is None:
        return
    point.hits += 1
    if point.at_hit not in (0, point.hits):
        return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif point.action == "sleep":
        time.sleep(point.sleep_s)
    else:
        raise OSError(errno.EIO, f"failpoint {name}")


def _nothing(name: str) -> None:
    return


def _from_environment() -> Callable[[str], None]:
    armed = parse(os.environ.get(VARIABLE, ""))
    return (lambda name: _act(armed, name)) if armed else _nothing


hit: Callable[[str], None] = _from_environment()
"""Say that the code has reached a failpoint. Call as `failpoints.hit(name)`."""
