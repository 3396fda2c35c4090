"""`blockyard block …`: where a block is, and whether its replicas are sound."""

from typing import Annotated, Any

import typer
from blockyard.client.cli.group import AsJson, Members
from blockyard.client.cli.output import console, show_json, show_table, size
from blockyard.client.cli.storage import STATES, Storage, storage
from blockyard.proto import errors
from blockyard.proto.cluster_map import ClusterView, MapNode
from blockyard.proto.ids import BLOCK, BlockId
from blockyard.proto.storage_pb2 import VerifyBlockReply, VerifyBlockRequest

app = typer.Typer(help="Blocks: locate, verify.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="Block id, as in b17.42 (group and sequence).")]


def _parse(text: str) -> BlockId:
    try:
        return BLOCK.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def locate(members: Members, block_id: Id, as_json: AsJson = False) -> None:
    """Say which nodes hold a block, by the cluster map; nobody is asked."""
    block = _parse(block_id)
    with storage(members) as found:
        view = found.view()
    group = view.group_of(block)
    holders = [_place(view, group, node) for node in view.readers(block)]
    if as_json:
        show_json({"block": block_id, "group": group, "map_epoch": view.epoch, "holders": holders})
        return
    console.print(f"Block {block_id} is of group {group}, in the map of epoch {view.epoch}; readers ask in this order:")
    rows = [[str(each[key]) for key in ("name", "zone", "state", "role", "address")] for each in holders]
    show_table(["node", "zone", "state", "role", "address"], rows)


def _place(view: ClusterView, group: int, node: MapNode) -> dict[str, Any]:
    return {
        "node": node.id,
        "name": node.name,
        "zone": node.zone,
        "state": STATES.get(node.state, "?"),
        "role": "holder" if view.holds(node.id, group) else "former holder",
        "address": node.lane,
    }


@app.command()
def verify(members: Members, block_id: Id, as_json: AsJson = False) -> None:
    """Have every node that may hold a block read its replica in full; exits with 1 when one lacks it or differs.

    A node that finds its replica bad puts it aside at once, and repair replaces it.
    """
    block = _parse(block_id)
    with storage(members) as found:
        view = found.view()
        group = view.group_of(block)
        replicas = [_place(view, group, node) | _check(found, node, block) for node in view.holders(block)]
    verdict = _verdict(replicas)
    if as_json:
        show_json({"block": block_id, "group": group, "sound": not verdict, "found": verdict, "replicas": replicas})
    else:
        _show(block_id, replicas, verdict)
    if verdict:
        raise typer.Exit(1)


def _check(found: Storage, node: MapNode, block: int) -> dict[str, Any]:
    try:
        reply: VerifyBlockReply = found.node(node).VerifyBlock(VerifyBlockRequest(block=block, reason="an operator"))
    except errors.UnknownBlock:
        return {"found": "missing", "length": None, "crc32c": None}
    except errors.BlockyardError as error:
        return {"found": "not checked", "why": error.message, "length": None, "crc32c": None}
    outcome = {"length": reply.length, "crc32c": f"{reply.crc32c:08x}"}
    if reply.good:
        return {"found": "good", **outcome}
    return {"found": "bad", "bad_pages": list(reply.bad_pages), **outcome}


def _verdict(replicas: list[dict[str, Any]]) -> str:
    """Return what is wrong in a sentence; empty when every holder has the same good replica."""
    holders = [each for each in replicas if each["role"] == "holder"]
    good = [each for each in replicas if each["found"] == "good"]
    if not good:
        return "no node has a good replica"
    if len({(each["length"], each["crc32c"]) for each in good}) > 1:
        return "replicas that pass their own checksums differ from each other"
    wrong = [f"{each['name']}: {each['found']}" for each in replicas if each["found"] == "bad"]
    wrong += [f"{each['name']}: {each['found']}" for each in holders if each["found"] in ("missing", "not checked")]
    return "; ".join(wrong)


def _show(block_id: str, replicas: list[dict[str, Any]], verdict: str) -> None:
    rows = [
        [
            each["name"],
            each["role"],
            each["found"],
            size(each["length"]) if each["length"] else "",
            each["crc32c"] or "",
        ]
        for each in replicas
    ]
    show_table(["node", "role", "replica", "length", "crc32c"], rows)
    console.print(
        f"Block {block_id}: {verdict}." if verdict else f"Block {block_id}: every holder has it, all the same."
    )
