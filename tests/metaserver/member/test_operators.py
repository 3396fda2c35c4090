"""What operators do, through the command line: status, transfer, members, snapshots, backup, check, the log."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from blockyard.proto import cluster_pb2 as cluster_pb
from blockyard.proto import failpoints
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.cluster_pb2_grpc import ClusterStub
from blockyard.proto.common_pb2 import Address, Caller, RequestId
from blockyard.proto.lane import AioChannel

from tests.support.group_client import ROOT, GroupClient
from tests.support.load import Load
from tests.support.meta_cluster import MetaCluster, until

CLI = [sys.executable, "-m", "blockyard.client.cli.app"]


async def blockyard(group: MetaCluster, *arguments: str, status: int = 0) -> str:
    """Run the command line beside the event loop; return what it printed."""
    environment = {**os.environ, "BLOCKYARD_MEMBERS": ",".join(group.addresses), "COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(
        *CLI, *arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == status, err.decode() + out.decode()
    assert b"Traceback" not in err
    return out.decode() if status == 0 or out else err.decode()


async def as_json(group: MetaCluster, *arguments: str, status: int = 0) -> Any:
    """Run the command line with --json; return what it said."""
    return json.loads(await blockyard(group, *arguments, "--json", status=status))


async def test_status_transfer_and_the_log_speak_to_people_and_to_machines(group: MetaCluster) -> None:
    leader = await group.leader()
    other = await group.follower()
    async with GroupClient(group.addresses, "mount /data") as client:
        directory = (
            await client.change("MakeDirectory", pb.MakeDirectoryRequest(parent=ROOT, name=b"d", mode=0o777))
        ).attributes.inode
        await client.create("inside", directory)
        request = pb.CreateRequest(parent=directory, name=b"theirs", mode=0o644, caller=Caller(uid=7, gid=7))
        await client.change("Create", request)
        refused = pb.RemoveDirectoryRequest(parent=ROOT, name=b"d")
        try:
            await client.change("RemoveDirectory", refused)
        except OSError:
            pass  # it is not empty, and the log says so

        found = await as_json(group, "meta", "status")
        assert found["leader"] == leader
        assert found["witness"] == "parked"
        assert found["cluster"] == group.id
        assert {m["member"]: m["kind"] for m in found["members"]} == {1: "data", 2: "data", 3: "witness"}
        assert f"Member {leader} leads; the witness is parked." in await blockyard(group, "meta", "status")

        await blockyard(group, "meta", "transfer", "--to", str(other))
        assert await group.leader([other]) == other
        assert (await as_json(group, "meta", "status"))["leader"] == other

        rows = [json.loads(line) for line in (await blockyard(group, "oplog", "--json")).splitlines()]
        assert [(row["operation"], row["path"], row["outcome"]) for row in rows if row["path"]] == [
            ("mkdir", "/d", "ok"),
            ("create", "/d/inside", "ok"),
            ("create", "/d/theirs", "ok"),
            ("rmdir", "/d", "ENOTEMPTY"),
        ]
        assert {row["client"] for row in rows if row["path"]} == {"mount /data"}
        theirs = await blockyard(group, "oplog", "--user", "7", "--path", "/d")
        assert len(theirs.splitlines()) == 1
        assert "/d/theirs  (uid 7 at mount /data)" in theirs
        assert await blockyard(group, "oplog", "--since", "2199-01-01T00:00", "--json") == ""
        assert "give 30s, 10min" in await blockyard(group, "oplog", "--since", "soon", status=2)

        following = await asyncio.create_subprocess_exec(
            *CLI, "oplog", "--follow", "--since", "10min", "--path", "/d/in", "--json", stdout=subprocess.PIPE,
            env={**os.environ, "BLOCKYARD_MEMBERS": ",".join(group.addresses), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert following.stdout is not None
        try:
            assert json.loads(await asyncio.wait_for(following.stdout.readline(), 20))["path"] == "/d/inside"
            await client.create("in later", directory)
            assert json.loads(await asyncio.wait_for(following.stdout.readline(), 20))["path"] == "/d/in later"
        finally:
            following.kill()
            await following.wait()
    down = MetaCluster(group.root / "down")
    assert "No leader" in await blockyard(down, "meta", "status", status=2)


async def register_node(group: MetaCluster, number: int) -> None:
    """Register a storage node, by word only."""
    async with AioChannel(group.members[await group.leader()].address) as channel:
        stub: Any = ClusterStub(cast(Any, channel))
        await stub.RegisterNode(
            cluster_pb.RegisterNodeRequest(
                node=cluster_pb.NodeRecord(
                    name=f"n{number}",
                    zone=f"z{number}",
                    incarnation=number,
                    capacity_bytes=1 << 40,
                    address=Address(host="127.0.0.1", lane_port=9000 + number),
                ),
                cluster=group.id,
                starts=1,
            )
        )


async def lease(group: MetaCluster, client: GroupClient, sequence: int) -> list[int]:
    """Return a few leased block ids."""
    async with AioChannel(group.members[await group.leader()].address) as channel:
        stub: Any = ClusterStub(cast(Any, channel))
        request = cluster_pb.LeaseBlockIdsRequest(
            request=RequestId(session=client.session, sequence=sequence, answered_below=1), count=8
        )
        reply = await stub.LeaseBlockIds(request)
    return [(each.group << 48) + each.first_sequence + at for each in reply.ranges for at in range(each.count)]


async def test_a_backup_makes_a_new_group_that_gives_out_no_id_twice(make: Any) -> None:
    patient = {"placement": {"down_after_ms": 3_600_000, "out_after_s": 3_600}}  # the nodes here never heartbeat
    group: MetaCluster = make(settings=patient)
    group.format()
    group.start()
    leader = await group.leader()
    for number in (1, 2, 3):
        await register_node(group, number)
    backup = group.root / "backup"
    async with GroupClient(group.addresses) as client:
        for number in range(50):
            await client.create(f"before{number}")
        before = await lease(group, client, 1000)
        piece = pb.Slice(position=0, length=10, block=before[0], block_length=10)
        for name in (b"put", b"gone"):
            await client.change(
                "PutFile", pb.PutFileRequest(parent=ROOT, name=name, mode=0o644, size=10, slices=[piece])
            )
            piece.block = before[1]
        await client.change("Unlink", pb.UnlinkRequest(parent=ROOT, name=b"gone"))
        assert "bytes" in await blockyard(group, "meta", "backup", str(backup))
        after = await lease(group, client, 1001)
        late = await client.create("after")
        names = {entry.name for entry in await client.list()} - {b"after"}
        await group.assert_sound()
        sound = await as_json(group, "meta", "fsck", "--hash")
        assert len(sound["members"]) == 2
        assert all(int(each["state_hash"], 16) for each in sound["members"])
        assert not any(each["findings"] for each in sound["members"])
        assert sound["members"][0]["slices"] == 1
        taken = await as_json(group, "meta", "snapshot")
        assert taken["index"] > 0
    group.kill()

    restored: MetaCluster = make("restored", id=group.id, settings=patient)
    restored.members.clear()
    new = restored.add(4)
    restored.configure(4, group=[new], cluster={"id": "c" + "1" * 32, "metaservers": [new.address]})
    wrong = restored.run("restore", 4, str(backup))
    assert wrong.returncode == 78
    assert f"is a backup of cluster {group.id}" in wrong.stderr
    old = restored.add(leader)
    restored.configure(leader, group=[old], cluster={"id": group.id, "metaservers": [old.address]})
    reused = restored.run("restore", leader, str(backup))
    assert reused.returncode == 78
    assert "give a new id" in reused.stderr
    del restored.members[leader]
    restored.configure(4, group=[new], cluster={"id": group.id, "metaservers": [new.address]})
    damaged = group.root / "damaged"
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    refused = restored.run("restore", 4, str(damaged))
    assert refused.returncode == 70
    assert "Traceback" not in refused.stderr
    assert not new.directory.exists()
    done = restored.run("restore", 4, str(backup))
    assert done.returncode == 0, done.stderr
    restored.start(4)
    assert await restored.leader() == 4
    async with GroupClient(restored.addresses) as client:
        assert {entry.name for entry in await client.list()} == names
        given = await lease(restored, client, 1000)
        assert not {*given} & {*before, *after}
        assert await client.create("new") > late
        found = await client.read("ReadSlices", pb.ReadSlicesRequest(inode=await client.lookup("put")))
        assert [piece.block for piece in found.slices] == [before[0]]
    check = await as_json(restored, "meta", "fsck")
    assert [each["findings"] for each in check["members"]] == [[]]


async def test_members_are_replaced_added_and_removed_while_clients_work(group: MetaCluster) -> None:
    await group.leader()
    async with GroupClient(group.addresses) as client, Load([client]) as load:
        # A data member's disk is lost: a new member takes its place.
        lost = await group.follower()
        group.kill(lost)
        shutil.rmtree(group.members[lost].directory)
        await join(group, 4)
        await blockyard(
            group, "meta", "add", "--id", "4", "--address", group.members[4].address, "--replaces", str(lost)
        )
        del group.members[lost]
        await load.more()
        # The witness' disk is lost.
        group.kill(3)
        await join(group, 5, witness=True)
        witness = ["--id", "5", "--address", group.members[5].address, "--witness", "--replaces", "3"]
        await blockyard(group, "meta", "add", *witness)
        del group.members[3]
        await load.more()
        client.addresses = group.addresses
        found = await as_json(group, "meta", "status")
        assert {m["member"]: m["kind"] for m in found["members"]}[4] == "data"
        assert {m["member"]: m["kind"] for m in found["members"]}[5] == "witness"
        # The old leader goes for good: first it hands over.
        leader = await group.leader()
        if leader != 4:
            await group.in_step_enough(4)
            await blockyard(group, "meta", "transfer", "--to", "4")
            assert await group.leader([4]) == 4
        await load.more()
        # The group of new members survives the loss of one.
        group.kill(next(m.id for m in group.data if m.id != 4))
        await load.more()
        group.start(next(m.id for m in group.data if m.id != 4))
        # Without a witness the two go on as long as both live; so both must be in step first.
        load.rest()
        await group.in_step(*(member.id for member in group.data))
        assert "The group is now" in await blockyard(group, "meta", "remove", "--id", "5")
        load.go_on()
        assert (await as_json(group, "meta", "status"))["witness"] == "none"
        await load.more()
        await load.stop()
        await load.verify(group)
    ids = {m["member"] for m in (await as_json(group, "meta", "status"))["members"] if m["answers"]}
    assert len(ids) == 3


async def join(group: MetaCluster, number: int, witness: bool = False) -> None:
    """Make and start a member that the group will be told of."""
    group.add(number, witness)
    config = group.configure(number, group=[group.members[each] for each in group.members if each < 4])
    await blockyard(group, "meta", "join", "--config", str(config))
    group.start(number)
    await group.answers(number)


async def test_a_member_that_was_away_past_compaction_catches_up_though_it_is_interrupted_twice(make: Any) -> None:
    group: MetaCluster = make(settings={"raft": {"snapshot_after_entries": 100}})
    group.format()
    group.start()
    await group.leader()
    async with GroupClient(group.addresses) as client, Load([client]) as load:
        away = await group.follower()
        group.kill(away)
        behind = await group.answers(await group.leader())

        async def past() -> bool:
            await load.more(50)
            return (await group.answers(await group.leader())).first_index > behind.last_index

        await until(past, "the log begins after what the member has", 30)
        for point in ("snapshot.part.written", "snapshot.logged"):
            group.start(away, environment={failpoints.VARIABLE: f"{point}=kill"})
            assert await group.ended(away) == -9
        group.start(away)
        await group.in_step_enough(away)
        # The same to a member that lives meanwhile: who watches it is told that something was missed.
        watching = aiter(
            client.stub(group.members[away].address).Watch(pb.WatchRequest(session=client.session), timeout=60)
        )
        await anext(watching)
        group.pause(away)
        behind = await group.answers(await group.leader())
        await until(past, "the log begins after what the paused member has", 30)
        group.resume(away)
        assert (await anext(watching)).lost
        assert "snapshot_installed" in group.members[away].output()
        await group.in_step_enough(away)
        address = group.members[away].address
        name, inode = next(reversed(load.acknowledged.items()))
        assert await client.lookup(name, address=address) == inode
        await load.stop()
        await load.verify(group)


def test_the_command_line_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    for arguments, says in (
        (["ping", "127.0.0.1:1"], "127.0.0.1:1"),
        (["meta", "format", "--config", str(tmp_path / "none.toml")], "none.toml"),
    ):
        done = subprocess.run([*CLI, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr
