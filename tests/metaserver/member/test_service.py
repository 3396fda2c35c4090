"""What clients get from a healthy group, through both doors and from every member."""

import asyncio
from typing import Any

import grpc
import pytest
from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb
from tests.support.group_client import ME, ROOT, GroupClient
from tests.support.meta_cluster import MetaCluster


async def test_a_name_goes_through_its_life_and_every_member_shows_it(group: MetaCluster) -> None:
    leader = await group.leader()
    follower = group.members[await group.follower()].address
    async with GroupClient(group.addresses) as client:
        made = await client.create("a")
        with pytest.raises(errors.Exists):
            await client.create("a")
        for number in range(50):
            await client.create(f"n{number}")
            assert await client.lookup(f"n{number}", address=follower)  # acknowledged, so the follower shows it
        assert len(await client.list(address=follower)) == 51
        await client.change("Rename", pb.RenameRequest(parent=ROOT, name=b"a", new_parent=ROOT, new_name=b"b"))
        with pytest.raises(errors.NotFound):
            await client.lookup("a", address=follower)
        assert await client.lookup("b", address=follower) == made
        found = await client.read("GetAttributes", pb.GetAttributesRequest(inode=made), follower)
        assert found.attributes.mode == 0o644
        await client.change("Unlink", pb.UnlinkRequest(parent=ROOT, name=b"b"))
        with pytest.raises(errors.NotFound):
            await client.lookup("b", address=follower)
    assert leader == await group.leader()
