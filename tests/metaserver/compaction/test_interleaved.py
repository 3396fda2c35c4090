"""Compaction at any step between writes, cuts, holes and losses: content never changes, and space comes back."""

import itertools
import random

from blockyard.metaserver.namespace.slices import CHUNK_BYTES
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.errors import DeadlineExceeded, LeadershipLost, Unavailable
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.metaserver.compaction.group import Group, small_scale

START = CHUNK_BYTES - 300
"""Files are looked at from here: 300 bytes of one chunk and what follows in the next."""
SPAN = 600

places = st.integers(0, SPAN - 1)
lengths = st.integers(1, 40)
which = st.integers(0, 1)


class Interleaved(RuleBasedStateMachine):
    """Two files beside two bytearrays."""

    @initialize()
    def start(self) -> None:
        self.scale = small_scale()
        self.scale.__enter__()
        self.group = Group()
        self.stamp = 0
        self.files = [self.create(number) for number in range(2)]
        self.model = [bytearray() for _ in self.files]  # from START on

    def teardown(self) -> None:
        if hasattr(self, "group"):
            self.settle()
            self.scale.__exit__(None, None, None)

    def create(self, number: int) -> int:
        reply = self.group.change("Create", parent=1, name=b"%d" % number, mode=0o644)
        return int(reply.attributes.inode)

    def data(self, length: int) -> bytes:
        """Return bytes that are like no others."""
        self.stamp += 1
        return random.Random(self.stamp).randbytes(length)

    def put(self, file: int, place: int, data: bytes) -> None:
        self.group.write(self.files[file], START + place, data)
        model = self.model[file]
        model.extend(bytes(max(0, place + len(data) - len(model))))
        model[place : place + len(data)] = data

    # ------------------------------------------------------------------------------------------ clients

    @rule(file=which, place=places, length=lengths)
    def write(self, file: int, place: int, length: int) -> None:
        self.put(file, place, self.data(length))

    @rule(file=which, seed=st.integers(0, 2**16), count=st.integers(5, 30), low=places, width=st.integers(20, 300))
    def overwrite_many_times(self, file: int, seed: int, count: int, low: int, width: int) -> None:
        rng = random.Random(seed)
        for _ in range(count):
            self.put(file, low + rng.randrange(width), self.data(rng.randint(1, 6)))

    @rule(file=which, length=lengths)
    def append(self, file: int, length: int) -> None:
        if self.model[file]:
            data = self.data(length)
            room = CHUNK_BYTES - (START + len(self.model[file])) % CHUNK_BYTES
            if length <= room:
                self.group.write(self.files[file], 0, data, append=True)
                self.model[file] += data

    @rule(file=which, size=st.integers(0, SPAN))
    def truncate(self, file: int, size: int) -> None:
        if self.model[file]:
            self.group.change("SetAttributes", inode=self.files[file], size=START + size)
            del self.model[file][size:]
            self.model[file].extend(bytes(size - len(self.model[file])))

    @rule(file=which, place=places, length=st.integers(1, 200))
    def punch(self, file: int, place: int, length: int) -> None:
        self.group.change(
            "Allocate", inode=self.files[file], offset=START + place, length=length, mode=pb.ALLOCATE_PUNCH_HOLE
        )
        model = self.model[file]
        end = min(place + length, len(model))
        if place < end:
            model[place:end] = bytes(end - place)

    @rule(origin=which, sink=which, place=places, into=places, length=st.integers(1, 200))
    def clone(self, origin: int, sink: int, place: int, into: int, length: int) -> None:
        """Let a file share blocks of the other, or of itself at another place."""
        length = min(length, len(self.model[origin]) - place)
        if length <= 0 or (origin == sink and abs(place - into) < length):
            return
        self.group.change(
            "CopyRange", source=self.files[origin], source_offset=START + place, target=self.files[sink],
            target_offset=START + into, length=length,
        )  # fmt: skip
        model = self.model[sink]
        model.extend(bytes(max(0, into + length - len(model))))
        model[into : into + length] = self.model[origin][place : place + length]

    @rule(file=which)
    def replace(self, file: int) -> None:
        self.group.change("Unlink", parent=1, name=b"%d" % file)
        self.files[file] = self.create(file)
        self.model[file] = bytearray()

    # ------------------------------------------------------------------------------------------ the leader

    @rule(seconds=st.sampled_from([0, 0, 1, 5, 40, 5_000]))
    def look(self, seconds: int) -> None:
        self.group.pass_time(seconds)
        self.group.look()

    @precondition(lambda self: self.group.jobs)
    @rule(number=st.integers(0, 3))
    def step(self, number: int) -> None:
        job = self.group.jobs[number % len(self.group.jobs)]
        self.group.answer(job, self.group.carry_out(job.asked))

    @precondition(lambda self: self.group.jobs)
    @rule()
    def finish(self) -> None:
        self.group.finish(self.group.jobs[0])

    @precondition(lambda self: self.group.jobs)
    @rule(number=st.integers(0, 3), done=st.booleans())
    def fail(self, number: int, done: bool) -> None:
        """A step fails, before or after it had its effect."""
        job = self.group.jobs[number % len(self.group.jobs)]
        if done:
            self.group.carry_out(job.asked)
        self.group.answer(job, DeadlineExceeded("no answer came") if done else Unavailable("it is down"))

    @precondition(lambda self: self.group.jobs)
    @rule(done=st.booleans())
    def lose_leadership(self, done: bool) -> None:
        """A step may have its effect, and nobody hears of it."""
        job = self.group.jobs[0]
        if done:
            self.group.carry_out(job.asked)
            job.answer(LeadershipLost("another leads"))
        self.group.change_leader()

    @rule()
    def restart(self) -> None:
        self.group.change_leader()

    @rule()
    def reclaim(self) -> None:
        self.group.reclaim()

    @rule()
    def collect_orphans(self) -> None:
        self.group.collect_orphans()

    # ------------------------------------------------------------------------------------------ what must hold

    @invariant()
    def every_file_reads_as_it_was_written(self) -> None:
        if not hasattr(self, "group"):
            return
        for inode, model in zip(self.files, self.model, strict=True):
            assert self.group.read(inode, START, len(model) + 10) == bytes(model)

    @invariant()
    def the_state_is_sound_and_what_is_referred_to_is_there(self) -> None:
        if not hasattr(self, "group"):
            return
        assert self.group.faults() == []
        for block, length in self.group.referenced().items():
            assert len(self.group.blocks[block]) == length

    def settle(self) -> None:
        """With time and without faults nothing crowded is left, and no block that nobody needs."""
        for _ in range(200):
            self.group.pass_time(100)
            self.group.look()
            while self.group.jobs:
                self.group.finish(self.group.jobs[0])
            if not self.group.machine.state.crowded.names():
                break
        assert self.group.machine.state.crowded.names() == []
        self.every_file_reads_as_it_was_written()
        self.group.pass_time(40)
        self.group.reclaim()
        self.group.collect_orphans()
        assert set(self.group.blocks) == set(self.group.referenced())
        for inode in self.files:
            for chunk in range(2):
                pieces = self.group.pieces((inode, chunk))
                touching = any(a[0] + a[1] == b[0] for a, b in itertools.pairwise(pieces))
                assert len(pieces) <= 8 or not touching


Interleaved.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestInterleaved = Interleaved.TestCase
