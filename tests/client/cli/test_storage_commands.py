"""The storage commands against a real cluster: what people read, and what machines parse.

The tests run in order on one cluster; those that change it come last and say so.
"""

from pathlib import Path

from blockyard.proto.cluster_pb2 import NODE_DOWN, NODE_UP
from blockyard.proto.ids import BLOCK, BlockId
from blockyard.proto.storage_pb2 import VerifyBlockRequest

from tests.client.cli.conftest import Yard
from tests.support.storage_cluster import wait_until

NODES = {"n1", "n2", "n3", "n4"}


def block_name(yard: Yard, large: bool = False) -> str:
    wanted = [b for b, each in yard.blocks.blocks.items() if (len(each.data) > 1 << 20) == large]
    return BLOCK.text(BlockId(wanted[0]))


def test_status_says_in_one_sentence_how_the_storage_is(yard: Yard) -> None:
    wait_until(lambda: yard.json("status")["health"] == "healthy", "every group is known to be complete")
    text = yard.text("status")
    assert text.startswith("Storage is healthy: 4 nodes, every group has its 3 replicas.\n")
    assert "3 of 3 members answer" in text
    found = yard.json("status")
    assert found["reasons"] == []
    assert found["groups"] == {"all": 32, "degraded": 0, "paused": 0}
    assert found["metadata"]["answering"] == 3
    assert found["repair"] == {"blocks": 0, "bytes": 0, "bytes_per_second": 0, "eta_s": 0.0}
    assert {node["name"] for node in found["nodes"]} == NODES


def test_nodes_are_listed_with_state_room_and_blocks(yard: Yard) -> None:
    found = {node["name"]: node for node in yard.json("node", "list")["nodes"]}
    assert set(found) == NODES
    assert all(node["state"] == "up" and node["heard"] for node in found.values())
    assert sum(node["blocks"] for node in found.values()) == 3 * len(yard.blocks.blocks)
    assert sum(node["groups"] for node in found.values()) == 3 * 32
    assert all(0 < node["free_bytes"] < node["capacity_bytes"] for node in found.values())
    lines = yard.text("node", "list").splitlines()
    assert lines[0].split() == [
        "id",
        "name",
        "zone",
        "state",
        "address",
        "capacity",
        "used",
        "blocks",
        "groups",
        "sync",
    ]
    assert len(lines) == 5


def test_a_block_is_located_by_the_map(yard: Yard) -> None:
    name = block_name(yard)
    found = yard.json("block", "locate", name)
    view = yard.cluster.view()
    assert [each["node"] for each in found["holders"]] == list(view.groups[found["group"]].nodes)
    assert {each["role"] for each in found["holders"]} == {"holder"}
    assert f"Block {name} is of group {found['group']}" in yard.text("block", "locate", name)


def test_a_block_is_verified_on_every_holder(yard: Yard) -> None:
    for large in (False, True):
        found = yard.json("block", "verify", block_name(yard, large))
        assert found["sound"]
        assert [each["found"] for each in found["replicas"]] == ["good"] * 3
        assert len({each["crc32c"] for each in found["replicas"]}) == 1
    assert "every holder has it, all the same." in yard.text("block", "verify", block_name(yard))


def test_a_block_that_nobody_has_is_said_to_be_missing(yard: Yard) -> None:
    name = BLOCK.text(BlockId(yard.blocks.lease(1)[0]))
    done = yard.run("block", "verify", name)
    assert done.returncode == 1
    assert "no node has a good replica" in done.stdout
    assert done.stdout.count("missing") == 3


def test_what_is_not_a_block_or_a_node_is_explained(yard: Yard) -> None:
    done = yard.run("block", "locate", "17")
    assert done.returncode == 2
    assert "b0.1" in done.stderr
    done = yard.run("node", "drain", "n9")
    assert done.returncode == 2
    assert "there is no node 'n9'" in done.stderr


def test_a_scrub_reads_everything_now(yard: Yard) -> None:
    found = {each["name"]: each for each in yard.json("scrub")["nodes"]}
    assert set(found) == NODES
    assert sum(each["blocks"] for each in found.values()) == 3 * len(yard.blocks.blocks)
    assert all(each["quarantined_blocks"] == 0 for each in found.values())
    assert {line.split()[0] for line in yard.text("scrub", "n1", "n2").splitlines()[1:]} == {"n1", "n2"}


def test_garbage_is_counted_and_what_a_living_session_leased_is_none(yard: Yard) -> None:
    found = yard.json("gc", "--dry-run")["nodes"]
    assert {each["name"] for each in found} == NODES
    assert all(each["orphans"] == each["dropped"] == 0 for each in found)
    assert yard.text("gc").splitlines()[0].split()[0] == "node"
    yard.blocks.assert_readable()


def test_a_damaged_replica_is_found_by_verify_and_put_aside(yard: Yard) -> None:
    """Changes the cluster: a replica goes bad, and repair replaces it."""
    number = next(b for b, each in yard.blocks.blocks.items() if len(each.data) > 1 << 20)
    name = BLOCK.text(BlockId(number))
    holder = yard.json("block", "locate", name)["holders"][0]["name"]
    flip_a_bit(yard.cluster.nodes[holder].directory, yard.blocks.blocks[number].data)
    done = yard.run("block", "verify", name)
    assert done.returncode == 1
    assert f"{holder}: bad" in done.stdout
    stub = yard.cluster.stub(holder)
    wait_until(lambda: not yard.run("block", "verify", name).returncode, "repair replaces the replica", 60)
    assert stub.VerifyBlock(VerifyBlockRequest(block=number)).good


def flip_a_bit(directory: Path, data: bytes) -> None:
    """Damage the file that holds `data` and nothing else."""
    files = [each for each in (directory / "blocks").rglob("*") if each.is_file() and each.stat().st_size == len(data)]
    [file] = [each for each in files if each.read_bytes() == data]
    with file.open("r+b") as out:
        out.seek(100_000)
        out.write(bytes([data[100_000] ^ 1]))


def test_a_node_is_drained_with_progress_and_back_again(yard: Yard) -> None:
    """Changes the cluster, and changes it back."""
    done = yard.run("node", "remove", "n4")
    assert done.returncode == 1
    assert "only copies" in done.stderr
    assert yard.json("node", "drain", "n4", "--wait") == {
        "node": yard.cluster.id("n4"), "name": "n4", "state": "draining", "groups_left": 0,
    }  # fmt: skip
    yard.blocks.assert_whole()
    assert "n4 is empty" in yard.text("status")
    assert yard.json("node", "undrain", "n4")["state"] == "up"
    assert yard.cluster.node("n4").state == NODE_UP
    assert "drains" in yard.text("node", "drain", str(yard.cluster.id("n4")))


def test_an_empty_node_is_removed_and_its_process_ends(yard: Yard) -> None:
    """Changes the cluster for good."""
    yard.text("node", "drain", "n4", "--wait")
    assert "is removed" in yard.text("node", "remove", "n4")
    yard.cluster.ended("n4")
    assert {node["name"] for node in yard.json("node", "list")["nodes"]} == NODES - {"n4"}


def test_a_node_that_is_down_is_a_reason_and_two_of_them_a_danger(yard: Yard) -> None:
    """Changes the cluster for good."""
    yard.cluster.kill("n1")
    yard.cluster.until_state("n1", NODE_DOWN)
    found = yard.json("status")
    assert found["health"] == "degraded"
    assert any(reason.startswith("node n1 is down") for reason in found["reasons"])
    yard.cluster.kill("n2")
    yard.cluster.until_state("n2", NODE_DOWN)
    done = yard.run("status")
    assert done.returncode == 1
    assert done.stdout.startswith("Storage is in danger")
    assert "32 of 32 groups have fewer than 2 nodes that take writes" in done.stdout
    scrubbed = yard.run("scrub", "n1")
    assert scrubbed.returncode == 1
    assert "n1: " in scrubbed.stderr
