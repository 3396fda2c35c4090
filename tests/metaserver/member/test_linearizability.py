"""One directory, several clients, members killed, paused and changed meanwhile: some sequential order explains it all.

Clients ask every member: changes at the leader, reads at the follower as well. The checker is
`tests/checkers/linearizability.py`, the sequential directory `tests/checkers/namespace_model.py`; its link(2) goes by
name and is left out here, since the protocol's goes by inode. A token is kept in a device number or a directory's mode.
"""

import asyncio
import errno
import itertools
import random
import time
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb

from tests.checkers.linearizability import Operation, Outcome, check, unknown_share
from tests.checkers.namespace_model import (
    Action,
    Attributes,
    Create,
    DirectoryModel,
    Mkdir,
    Readdir,
    Rename,
    Rmdir,
    Stat,
    Unlink,
)
from tests.support.group_client import AGAIN, GroupClient
from tests.support.meta_cluster import MetaCluster, until

CLIENTS = 5
NAMES = [f"n{number}" for number in range(4)]
PACE_S = 0.01


class Recorder:
    """Clients at work in one directory, and the history of what they were told."""

    def __init__(self, group: MetaCluster, directory: int, seed: int) -> None:
        self.group = group
        self.directory = directory
        self.history: list[Operation[Any, Any]] = []
        self.stopping = False
        self._seed = seed
        self._tokens = itertools.count(1)

    async def work(self, number: int) -> None:
        """Be one client until told to stop."""
        chance = random.Random(self._seed * 1000 + number)
        async with GroupClient(self.group.addresses, f"client {number}") as client:
            while not self.stopping:
                action = self._choose(chance)
                address = chance.choice([None, *(member.address for member in self.group.data)])
                called = time.monotonic()
                try:
                    result = await self._carry_out(client, action, address)
                except AGAIN as error:
                    if isinstance(action, Readdir | Stat) or error.definite:
                        continue  # nothing was learned and nothing changed
                    self.history.append(Operation(number, action, None, called, None))
                else:
                    self.history.append(Operation(number, action, result, called, time.monotonic()))
                await asyncio.sleep(PACE_S)

    def _choose(self, chance: random.Random) -> Action:
        one, other, token = chance.choice(NAMES), chance.choice(NAMES), next(self._tokens)
        actions: list[Action] = [
            Create(one, token), Mkdir(one, token % 0o1000), Unlink(one), Rmdir(one), Rename(one, other), Readdir(),
            Stat(one),
        ]  # fmt: skip
        return chance.choices(actions, [4, 1, 3, 1, 3, 2, 4])[0]

    async def _carry_out(self, client: GroupClient, action: Action, address: str | None) -> Any:
        """Return what the model would: None when done, an errno's name, attributes or names."""
        parent = self.directory
        try:
            match action:
                case Readdir():
                    return frozenset(entry.name.decode() for entry in await client.list(parent, address))
                case Stat(name):
                    request = pb.LookupRequest(parent=parent, name=name.encode())
                    return _attributes((await client.read("Lookup", request, address)).attributes)
                case Create(name, token):
                    # One change makes the file and gives it the token: its mode and device number are made of it.
                    make = pb.MakeNodeRequest(
                        parent=parent, name=name.encode(), type=pb.FILE_TYPE_CHARACTER, mode=0o600, rdev=int(str(token))
                    )
                    await client.change("MakeNode", make)
                case Mkdir(name, token):
                    mode = int(str(token))
                    await client.change(
                        "MakeDirectory", pb.MakeDirectoryRequest(parent=parent, name=name.encode(), mode=mode)
                    )
                case Unlink(name):
                    await client.change("Unlink", pb.UnlinkRequest(parent=parent, name=name.encode()))
                case Rmdir(name):
                    await client.change("RemoveDirectory", pb.RemoveDirectoryRequest(parent=parent, name=name.encode()))
                case Rename(source_name, target):
                    request_ = pb.RenameRequest(
                        parent=parent, name=source_name.encode(), new_parent=parent, new_name=target.encode()
                    )
                    await client.change("Rename", request_)
        except errors.BlockyardError as error:
            if isinstance(error, AGAIN):
                raise
            return errno.errorcode[error.errno or 0]
        return None


def _attributes(found: pb.Attributes) -> Attributes:
    directory = found.type == pb.FILE_TYPE_DIRECTORY
    return Attributes("directory" if directory else "file", found.mode if directory else found.rdev, found.nlink)


async def kill_the_leader(group: MetaCluster) -> None:
    leader = await group.leader()
    group.kill(leader)
    await group.leader()
    group.start(leader)
    await group.in_step_enough(leader)


async def kill_the_follower(group: MetaCluster) -> None:
    follower = await group.follower()
    group.kill(follower)
    group.start(follower)
    await group.in_step_enough(follower)


async def pause_the_leader(group: MetaCluster) -> None:
    leader = await group.leader()
    group.pause(leader)
    await group.leader([member.id for member in group.data if member.id != leader])
    group.resume(leader)
    await group.in_step_enough(leader)


@pytest.mark.parametrize("seed", [1])
async def test_a_directory_is_linearizable_while_members_are_killed_and_paused(group: MetaCluster, seed: int) -> None:
    await group.leader()
    async with GroupClient(group.addresses) as client:
        request = pb.MakeDirectoryRequest(parent=1, name=b"shared", mode=0o777)
        directory = (await client.change("MakeDirectory", request)).attributes.inode
    recorder = Recorder(group, directory, seed)
    tasks = [asyncio.create_task(recorder.work(number)) for number in range(CLIENTS)]

    async def more() -> None:
        wanted = len(recorder.history) + 100

        async def enough() -> bool:
            for task in tasks:
                if task.done():
                    task.result()
            return len(recorder.history) >= wanted

        await until(enough, "100 more operations end")

    for fault in (kill_the_leader, pause_the_leader, kill_the_follower, kill_the_leader):
        await more()
        await fault(group)
    await more()
    recorder.stopping = True
    await asyncio.gather(*tasks)
    history = recorder.history
    assert unknown_share(history) < 0.05
    assert sum(operation.result is None for operation in history) > 100, "hardly anything was granted"
    verdict = check(DirectoryModel(), history)
    print(f"{len(history)} operations: {verdict.outcome.value} in {verdict.steps} steps")
    assert verdict.outcome is Outcome.LINEARIZABLE, str(verdict)
    await group.assert_sound()
