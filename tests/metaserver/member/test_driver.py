"""The driver's turns: what a member with much to apply goes on doing meanwhile."""

import asyncio
import random
from pathlib import Path

import pytest
from blockyard.metaserver import raft
from blockyard.metaserver.member.applier import Applier
from blockyard.metaserver.member.driver import MADE_UP_TICKS, Driver, ticks_due
from blockyard.metaserver.member.group_machine import GroupMachine
from blockyard.metaserver.raft import (
    AppendEntries,
    AppendReply,
    DurableState,
    Entry,
    EntryKind,
    LogIndex,
    MemberId,
    Membership,
    RaftConfig,
    RaftCore,
    Term,
)
from blockyard.metaserver.state.commands import METADATA, encode, method_id
from blockyard.metaserver.storage.log_store import LogStore
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto.metadata_pb2 import OpenSessionRequest

LEADER, FOLLOWER = MemberId(1), MemberId(2)
BATCHES = 5


class Nowhere:
    """Loses every message: the leader of these tests hears answers only."""

    def send(self, message: raft.Message) -> None:
        pass

    def flush(self) -> None:
        pass


class Follower:
    """A driver with real disks below it, in an event loop of the test."""

    def __init__(self, path: Path, max_apply_bytes: int) -> None:
        durable = DurableState.bootstrap(Membership.of([LEADER, FOLLOWER], None))
        LogStore.create(path / "log", durable.hard_state, durable.base)
        self.log = LogStore(path / "log")
        self.state = StateStore(path / "state")
        self.applier = Applier(self.state, GroupMachine(self.state, "c" + "0" * 32), self._refuse_snapshot)
        config = RaftConfig(FOLLOWER, max_apply_bytes=max_apply_bytes)
        core = RaftCore(config, DurableState(durable.hard_state, durable.base, durable.applied), self.log,
                        random.Random(1))  # fmt: skip
        self.driver = Driver(core, self.log, self.applier, Nowhere(), lambda wish: None, 0.01, self._failed)

    def step(self, message: raft.Message) -> list[raft.Message]:
        return self.driver.step_and_answer(LEADER, [message])

    def close(self) -> None:
        self.state.close()
        self.log.close()

    def _failed(self, error: BaseException) -> None:
        raise error

    def _refuse_snapshot(self, *_: object) -> tuple[StateStore, GroupMachine]:
        raise AssertionError("no snapshot was sent")


def backlog(count: int) -> list[Entry]:
    command = encode(
        1, 1, [(method_id(f"{METADATA}OpenSession"), OpenSessionRequest(client="x").SerializeToString(), ())]
    )
    return [Entry(LogIndex(2 + i), Term(2), EntryKind.COMMAND, command) for i in range(count)]


def test_a_follower_with_a_backlog_answers_first_and_applies_a_batch_in_a_turn(tmp_path: Path) -> None:
    async def run() -> None:
        entries = backlog(10 * BATCHES)
        follower = Follower(tmp_path, max_apply_bytes=10 * len(entries[0].data))
        before = follower.applier.applied
        answers = follower.step(
            AppendEntries(LEADER, FOLLOWER, Term(2), LogIndex(1), Term(1), entries, entries[-1].index)
        )
        assert [answer.index for answer in answers if isinstance(answer, AppendReply)] == [entries[-1].index]
        assert follower.applier.applied == before, "the answer waited for the state"
        turns = []
        while follower.applier.applied < entries[-1].index:
            await asyncio.sleep(0)
            turns.append(follower.applier.applied)
        assert sorted(set(turns)) == [LogIndex(1 + 10 * (i + 1)) for i in range(BATCHES)]
        follower.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("passed_s", "ticks"), [(0.0, 1), (0.004, 1), (0.011, 1), (0.026, 3), (0.05, 5), (60.0, MADE_UP_TICKS)]
)
def test_a_late_tick_is_made_up_for_but_never_a_whole_election_timeout(passed_s: float, ticks: int) -> None:
    assert ticks_due(passed_s, 0.01) == ticks
    assert RaftConfig(FOLLOWER).suspect_after_ticks > MADE_UP_TICKS
