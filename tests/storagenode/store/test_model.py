"""The store against a dictionary: any calls in any order, closed, killed, rewritten and rebuilt at any step."""

import shutil
import tempfile
from pathlib import Path

from blockyard.storagenode.store import BlockStore
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.storagenode.store.harness import SETTINGS, SMALL_LIMIT, block_id, check, listed, put, seal

IDS = st.integers(1, 60).map(block_id) | st.integers(1, 10).map(lambda number: block_id(number, 9))
SMALL = st.sampled_from([1, 64, 500, 4096, 20_000, 70_000])
LARGE = st.sampled_from([1, 5000, SMALL_LIMIT - 1, SMALL_LIMIT, 150_000])


class StoreMachine(RuleBasedStateMachine):
    """`expected` is what was acknowledged; a killed process keeps even what was not durable."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.lives = 0
        self.expected: dict[int, int] = {}
        self.start(self.root / "0")

    def start(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.store = BlockStore(path, SETTINGS)
        report = self.store.open()
        assert not report.damage
        assert not report.lost

    @rule(blocks=st.dictionaries(IDS, SMALL, min_size=1, max_size=30), durable=st.booleans())
    def put(self, blocks: dict[int, int], durable: bool) -> None:
        new = {block: length for block, length in blocks.items() if block not in self.expected}
        put(self.store, new.items(), durable=durable)
        self.expected |= new

    @rule(block=IDS, length=LARGE, durable=st.booleans())
    def seal(self, block: int, length: int, durable: bool) -> None:
        if block not in self.expected:
            seal(self.store, block, length, durable=durable)
            self.expected[block] = length

    @rule(blocks=st.sets(IDS, max_size=40))
    def drop(self, blocks: set[int]) -> None:
        assert self.store.drop(blocks) == len(blocks & self.expected.keys())
        for block in blocks:
            self.expected.pop(block, None)

    @rule(block=IDS)
    def quarantine(self, block: int) -> None:
        self.store.quarantine(block, "for once")
        self.expected.pop(block, None)

    @rule(block=IDS, when=st.integers(0, 1 << 60))
    def scrub(self, block: int, when: int) -> None:
        self.store.mark_scrubbed(block, when)

    @rule()
    def rewrite(self) -> None:
        self.store.rewrite_packs(1 << 30)

    @rule()
    def tick(self) -> None:
        self.store._keep()

    @rule()
    def flush_the_index(self) -> None:
        self.store._catalogue.index.flush()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.start(self.store.directory)

    @rule(open_block=st.booleans())
    def kill(self, open_block: bool) -> None:
        """Go on with a copy of the directory as it is, as a process that replaces a killed one does."""
        if open_block and block_id(99) not in self.expected:
            self.store.begin(block_id(99), 100_000)
        self.lives += 1
        path = self.root / str(self.lives)
        shutil.copytree(self.store.directory, path)
        self.store.close()
        shutil.rmtree(self.store.directory)
        self.start(path)
        assert not list((path / "writing").iterdir())

    @precondition(lambda self: self.lives < 50)
    @rule()
    def rebuild(self) -> None:
        self.store.close()
        report = BlockStore.rebuild_index(self.store.directory)
        assert (report.from_scratch, report.damage, report.lost, report.strays) == (True, [], [], [])
        self.start(self.store.directory)

    @invariant()
    def everything_is_as_expected(self) -> None:
        if hasattr(self, "store"):
            assert listed(self.store) == self.expected

    def teardown(self) -> None:
        if hasattr(self, "store"):
            check(self.store, self.expected)
            self.store.close()
            shutil.rmtree(self.root)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
