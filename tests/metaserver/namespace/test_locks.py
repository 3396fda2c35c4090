"""File locks: against a model that keeps a holder per byte, and sentence by sentence."""

import errno

import pytest
from blockyard.metaserver.namespace.lock_ranges import LAST_BYTE
from blockyard.metaserver.state.commands import INTERNAL
from blockyard.proto import internal_pb2 as internal
from blockyard.proto.common_pb2 import Caller, Empty
from blockyard.proto.errors import BlockyardError, Deadlock, InvalidArgument, PermissionDenied, WouldBlock
from blockyard.proto.metadata_pb2 import LOCK_EXCLUSIVE, LOCK_SHARED, LOCK_UNLOCK, CloseSessionRequest, FileLock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.metaserver.namespace.harness import ROOT, Client, World

BYTES = 12
KINDS = (LOCK_SHARED, LOCK_EXCLUSIVE)

owners = st.tuples(st.integers(0, 1), st.integers(0, 2))  # session, owner number


class Locks(RuleBasedStateMachine):
    """Owners of two sessions on one file's first bytes. The model: who holds which kind on each byte, and the queue."""

    @initialize(seed=st.integers(0, 2**16))
    def start(self, seed: int) -> None:
        self.world = World(seed=seed)
        self.sessions = [self.world.session(), self.world.session()]
        self.file = self.sessions[0].create(ROOT, b"f")
        self.bytes: list[dict[tuple[int, int], int]] = [{} for _ in range(BYTES)]
        self.queue: list[tuple[tuple[int, int], int, int, int, int]] = []  # who, sequence, start, end, kind

    def is_free(self, who: tuple[int, int], start: int, end: int, kind: int) -> bool:
        return not any(
            holder != who and LOCK_EXCLUSIVE in (kind, held)
            for byte in self.bytes[start : end + 1]
            for holder, held in byte.items()
        )

    def take(self, who: tuple[int, int], start: int, end: int, kind: int) -> None:
        for byte in self.bytes[start : end + 1]:
            byte.pop(who, None)
            if kind != LOCK_UNLOCK:
                byte[who] = kind

    def wake(self) -> None:
        """Grant what can be granted, oldest first, and expect the machine to have said so."""
        granted = []
        for waiter in list(self.queue):
            who, sequence, start, end, kind = waiter
            if self.is_free(who, start, end, kind):
                self.take(who, start, end, kind)
                self.queue.remove(waiter)
                granted.append((self.sessions[who[0]].number, sequence))
        assert [(grant.session, grant.sequence) for grant in self.world.grants] == granted
        assert all(grant.outcome == Empty() for grant in self.world.grants)
        self.world.grants.clear()

    def blockers(self, who: tuple[int, int], start: int, end: int, kind: int) -> set[tuple[int, int]]:
        return {
            holder
            for byte in self.bytes[start : end + 1]
            for holder, held in byte.items()
            if holder != who and LOCK_EXCLUSIVE in (kind, held)
        }

    def closes_a_circle(self, who: tuple[int, int], start: int, end: int, kind: int) -> bool:
        reached = self.blockers(who, start, end, kind)
        while True:
            further = set(reached)
            for waiting, _, low, high, wanted in self.queue:
                if waiting in reached:
                    further |= self.blockers(waiting, low, high, wanted)
            if further == reached:
                return who in reached
            reached = further

    @rule(
        who=owners,
        start=st.integers(0, BYTES - 1),
        length=st.integers(1, BYTES),
        kind=st.sampled_from(KINDS),
        wait=st.booleans(),
    )
    def lock(self, who: tuple[int, int], start: int, length: int, kind: int, wait: bool) -> None:
        end = min(start + length, BYTES) - 1
        client = self.sessions[who[0]]
        if self.is_free(who, start, end, kind):
            assert client.lock(self.file, who[1], kind, start, end, wait=wait)
            self.take(who, start, end, kind)
            self.wake()
        elif not wait:
            with pytest.raises(WouldBlock):
                client.lock(self.file, who[1], kind, start, end)
        elif self.closes_a_circle(who, start, end, kind):
            with pytest.raises(Deadlock):
                client.lock(self.file, who[1], kind, start, end, wait=True)
        else:
            assert not client.lock(self.file, who[1], kind, start, end, wait=True)
            self.queue.append((who, client.sequence, start, end, kind))

    @rule(who=owners, start=st.integers(0, BYTES - 1), length=st.integers(1, BYTES))
    def unlock(self, who: tuple[int, int], start: int, length: int) -> None:
        end = min(start + length, BYTES) - 1
        self.sessions[who[0]].lock(self.file, who[1], LOCK_UNLOCK, start, end)
        self.take(who, start, end, LOCK_UNLOCK)
        self.wake()

    @rule(who=owners)
    def release_all(self, who: tuple[int, int]) -> None:
        self.sessions[who[0]].change("ReleaseLocks", inode=self.file, owner=who[1])
        self.take(who, 0, BYTES - 1, LOCK_UNLOCK)
        self.wake()

    @rule(place=st.integers(0, 5))
    def cancel(self, place: int) -> None:
        if place < len(self.queue):
            who, sequence, *_ = self.queue.pop(place)
            session = self.sessions[who[0]].number
            assert cancel(self.world, session, sequence)
            (grant,) = self.world.grants
            assert isinstance(grant.outcome, BlockyardError)
            assert (grant.session, grant.sequence, grant.outcome.errno) == (session, sequence, errno.EINTR)
            self.world.grants.clear()

    @rule(place=st.integers(0, 1))
    def end_session(self, place: int) -> None:
        old = self.sessions[place]
        self.sessions[place] = self.world.session()
        old.world.command("/blockyard.v1.Metadata/CloseSession", _close(old.number))
        for byte in self.bytes:
            for who in [who for who in byte if who[0] == place]:
                del byte[who]
        self.queue = [waiter for waiter in self.queue if waiter[0][0] != place]
        self.wake()

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @invariant()
    def each_byte_has_the_holders_of_the_model(self) -> None:
        if not hasattr(self, "world"):
            return
        locks = self.world.machine.state.locks.get(self.file)
        found: list[dict[tuple[int, int], int]] = [{} for _ in range(BYTES)]
        numbers = {session.number: place for place, session in enumerate(self.sessions)}
        for lock in locks.held if locks else ():
            for byte in found[lock.start : lock.end + 1]:
                who = (numbers[lock.session], lock.owner)
                assert who not in byte
                byte[who] = lock.kind
        assert found == self.bytes
        assert self.world.faults() == []


def _close(session: int) -> object:
    return CloseSessionRequest(session=session)


def cancel(world: World, session: int, sequence: int) -> bool:
    """End a wait; return whether it still lasted."""
    request = internal.CancelLockRequest(session=session, sequence=sequence)
    return bool(world.command(f"{INTERNAL}CancelLock", request).cancelled)


Locks.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLocks = Locks.TestCase


# --- Sentences -------------------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Client:
    return World().session()


def test_a_deadlock_across_two_files_is_refused(client: Client) -> None:
    one, two = client.create(ROOT, b"1"), client.create(ROOT, b"2")
    other = client.world.session()
    client.lock(one, 1, LOCK_EXCLUSIVE)
    other.lock(two, 1, LOCK_EXCLUSIVE)
    assert not client.lock(two, 1, LOCK_EXCLUSIVE, wait=True)
    with pytest.raises(Deadlock):
        other.lock(one, 1, LOCK_EXCLUSIVE, wait=True)


def test_flock_and_fcntl_locks_do_not_see_each_other(client: Client) -> None:
    file = client.create(ROOT, b"f")
    assert client.lock(file, 1, LOCK_EXCLUSIVE)
    assert client.lock(file, 2, LOCK_EXCLUSIVE, flock=True)
    with pytest.raises(WouldBlock):
        client.lock(file, 1, LOCK_SHARED, flock=True)


def test_a_refused_conversion_of_a_flock_keeps_the_old_lock(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.lock(file, 1, LOCK_SHARED, flock=True)
    client.lock(file, 2, LOCK_SHARED, flock=True)
    with pytest.raises(WouldBlock):
        client.lock(file, 1, LOCK_EXCLUSIVE, flock=True)
    with pytest.raises(WouldBlock):
        client.lock(file, 2, LOCK_EXCLUSIVE, flock=True)


def test_two_waiting_conversions_of_a_flock_do_not_wait_for_each_other(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.lock(file, 1, LOCK_SHARED, flock=True)
    client.lock(file, 2, LOCK_SHARED, flock=True)
    assert not client.lock(file, 1, LOCK_EXCLUSIVE, flock=True, wait=True)
    waiting = client.sequence
    client.lock(file, 2, LOCK_EXCLUSIVE, flock=True, wait=True)
    assert [(grant.sequence, grant.outcome) for grant in client.world.grants] == []
    client.lock(file, 2, LOCK_UNLOCK, flock=True)
    assert [(grant.sequence, grant.outcome) for grant in client.world.grants] == [(waiting, Empty())]


def test_a_retry_of_a_waiting_lock_waits_on_and_a_granted_one_is_answered(client: Client) -> None:
    file = client.create(ROOT, b"f")
    other = client.world.session()
    other.lock(file, 1, LOCK_EXCLUSIVE)
    client.lock(file, 1, LOCK_EXCLUSIVE, wait=True)
    client.sequence -= 1
    assert not client.lock(file, 1, LOCK_EXCLUSIVE, wait=True)
    other.lock(file, 1, LOCK_UNLOCK)
    client.world.restart()
    client.sequence -= 1
    assert client.lock(file, 1, LOCK_EXCLUSIVE, wait=True)
    assert not cancel(client.world, client.number, client.sequence)


def test_an_expired_session_gives_its_locks_to_those_who_wait(client: Client) -> None:
    file = client.create(ROOT, b"f")
    world = client.world
    silent = world.session(term_ms=5_000)
    silent.lock(file, 1, LOCK_EXCLUSIVE)
    client.lock(file, 1, LOCK_SHARED, wait=True)
    world.clock_ms += 6_000
    assert world.expire() == [silent.number]
    assert [(grant.session, grant.outcome) for grant in world.grants] == [(client.number, Empty())]


def test_getlk_names_the_lock_in_the_way(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.lock(file, 5, LOCK_EXCLUSIVE, 10, 19, pid=77)
    wanted = FileLock(owner=6, kind=LOCK_SHARED, start=0, end=LAST_BYTE)
    conflict = client.read("GetLock", inode=file, lock=wanted, session=client.number).conflict
    assert (conflict.start, conflict.end, conflict.pid, conflict.kind) == (10, 19, 77, LOCK_EXCLUSIVE)
    wanted.owner = 5
    assert not client.read("GetLock", inode=file, lock=wanted, session=client.number).HasField("conflict")


def test_a_lock_needs_an_open_file_or_a_right(client: Client) -> None:
    file = client.create(ROOT, b"f", mode=0o600)
    stranger = Caller(uid=7, gid=7)
    lock = FileLock(owner=1, kind=LOCK_SHARED, end=LAST_BYTE)
    with pytest.raises(PermissionDenied):
        client.change("SetLock", stranger, inode=file, lock=lock)
    client.open(file)
    client.change("SetLock", stranger, inode=file, lock=lock)


def test_a_malformed_lock_is_refused(client: Client) -> None:
    file = client.create(ROOT, b"f")
    for start, end in ((5, 4), (0, 2**63), (2**63, 2**63)):
        with pytest.raises(InvalidArgument):
            client.lock(file, 1, LOCK_SHARED, start, end)


def test_locks_of_a_removed_file_end_and_so_do_waits_for_them(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.lock(file, 1, LOCK_EXCLUSIVE)
    client.lock(file, 2, LOCK_EXCLUSIVE, wait=True)
    client.change("Unlink", parent=ROOT, name=b"f")
    (grant,) = client.world.grants
    assert isinstance(grant.outcome, BlockyardError)
    assert grant.outcome.errno == errno.ESTALE
    assert client.world.faults() == []
