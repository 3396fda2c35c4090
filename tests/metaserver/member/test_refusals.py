"""What a member does not start on, or ends for: one line that says what to do (RELIABILITY.md, row 21)."""

import shutil
from typing import Any

from tests.support.group_client import GroupClient
from tests.support.load import Load
from tests.support.meta_cluster import MetaCluster, until

EXIT_CONFIG = 78


def last_line(text: str) -> str:
    """Return the last line; a refusal is one line."""
    return text.strip().splitlines()[-1]


async def refused(group: MetaCluster, number: int, *words: str, status: int = EXIT_CONFIG) -> None:
    """Wait until a member has refused, with all the words on the last line it printed and no traceback."""
    assert await group.ended(number) == status, group.members[number].output()
    output = group.members[number].output()
    assert "Traceback" not in output
    line = last_line(output)
    assert line.startswith("blockyard-metaserver: ")
    for word in words:
        assert word in line, line


async def test_a_directory_serves_its_own_cluster_and_member_only_and_one_process(make: Any) -> None:
    group: MetaCluster = make()
    group.format()
    member = group.members[1]

    group.configure(1, cluster={"id": "c" + "0" * 32, "metaservers": group.addresses})
    group.start(1)
    await refused(group, 1, "belongs to cluster", "Correct the cluster or the data directory")

    group.configure(1, metaserver={"data_dir": str(group.members[2].directory)})
    group.start(1)
    await refused(group, 1, "belongs to member m2", "Correct the member or the data directory")

    group.configure(1, metaserver={"data_dir": str(group.root / "nowhere")})
    group.start(1)
    await refused(group, 1, "There is no directory", "blockyard meta format")

    group.configure(1, raft={"heartbeat_ms": 1})
    group.start(1)
    await refused(group, 1, "raft.heartbeat_ms", "at least raft.tick_ms")

    group.configure(1)
    member.config.write_text(member.config.read_text() + "[metaserver2]\nx = 1\n")
    group.start(1)
    await refused(group, 1, "metaserver2")

    group.configure(1, cluster={"id": "", "metaservers": group.addresses})
    group.start(1)
    await refused(group, 1, "cluster.id: a metadata member is told")

    group.configure(1)
    again = group.run("format", 1)
    assert again.returncode == EXIT_CONFIG
    assert "is not empty" in last_line(again.stderr)

    group.start(1)
    await group.answers(1)
    second = group.run("serve", 1)
    assert second.returncode == EXIT_CONFIG
    assert f"is in use by process {member.pid}" in last_line(second.stderr)


async def test_a_copied_directory_is_refused_beside_its_original_and_in_its_place(group: MetaCluster) -> None:
    await group.leader()
    async with GroupClient(group.addresses) as client, Load([client]) as load:
        follower = await group.follower()
        original = group.members[follower]
        twin = MetaCluster(group.root / "twin", id=group.id)
        copy = twin.members[follower]
        group.pause(follower)  # a copy of one moment
        shutil.copytree(original.directory, copy.directory, symlinks=True)
        group.resume(follower)
        settings = original.config.read_text().replace(str(original.directory), str(copy.directory))
        copy.config.write_text(settings)
        try:
            # The original goes on, through two more starts, and is lost: the copy in its place is known to be older.
            for _ in range(2):
                await group.in_step_enough(follower)
                group.kill(follower)
                group.start(follower)
            await group.in_step_enough(follower)
            group.kill(follower)
            twin.start(follower)
            await refused(twin, follower, "runs on a copied or older data directory", "Stop it for good")
            await load.more()

            group.start(follower)
            await group.in_step_enough(follower)
            settings = settings.replace(f"lane_port = {original.lane_port}", f"lane_port = {copy.lane_port}")
            copy.config.write_text(settings.replace(f"{original.grpc_port}", f"{copy.grpc_port}"))
            twin.start(follower)
            await refused(twin, follower, f"member {follower} already runs at {original.address}", "is a copy")
        finally:
            twin.close()
        await load.more()
        await load.stop()
        await load.verify(group)


async def test_a_wiped_member_is_refused_under_its_old_id(group: MetaCluster) -> None:
    await group.leader()
    async with GroupClient(group.addresses) as client, Load([client]) as load:
        number = await group.follower()
        await group.in_step_enough(number)
        group.kill(number)
        shutil.rmtree(group.members[number].directory)
        group.format(number)
        group.start(number)
        await refused(group, number, "by another data directory", "blockyard meta join", "--replaces")
        await load.more()
        await load.stop()


async def test_a_member_of_another_cluster_is_not_listened_to(group: MetaCluster, make: Any) -> None:
    leader = await group.leader()
    stranger: MetaCluster = make("stranger")
    stranger.members[1].lane_port = group.members[1].lane_port  # its member 1 has moved to where ours is
    stranger.configure(2)
    stranger.configure(3)
    stranger.format(2, 3)
    stranger.start(2, 3)

    async def said() -> bool:
        return "peer_refuses" in stranger.members[2].output()

    await stranger.answers(2)
    await until(said, "the stranger was told")
    assert f"a message of cluster {stranger.id}" in stranger.members[2].output()
    assert await group.leader() == leader
    async with GroupClient(group.addresses) as client:
        await client.create("undisturbed")
