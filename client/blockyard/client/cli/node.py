"""`blockyard node …`: the storage nodes, and what operators do to them."""

import time
from typing import Annotated, Any

import typer
from blockyard.client.cli.group import AsJson, Members
from blockyard.client.cli.output import console, duration, show_json, show_table, size
from blockyard.client.cli.storage import STATES, Look, Storage, find, storage
from blockyard.proto.cluster_map import MapNode
from blockyard.proto.cluster_pb2 import NODE_DRAINING, NODE_REMOVED, NODE_UP, ChangeNodeRequest, NodeStatus
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer(help="Storage nodes: list, drain, undrain, remove.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NODE", help="Its name, or its id as n3 or 3.")]
LOOK_S = 0.5


@app.command(name="list")
def list_nodes(members: Members, as_json: AsJson = False) -> None:
    """Show every node: state, room, blocks, how its disk does."""
    with storage(members) as found:
        look = found.look()
    if as_json:
        show_json({"map_epoch": look.view.epoch, "nodes": nodes_json(look)})
    else:
        show_nodes(look)


def nodes_json(look: Look) -> list[dict[str, Any]]:
    """Return the nodes for machines."""
    return [_json(each, look) for each in look.status.nodes]


def _json(status: NodeStatus, look: Look) -> dict[str, Any]:
    node, beat = status.node, status.heartbeat
    return {
        "id": node.id,
        "name": node.name,
        "zone": node.zone,
        "state": STATES.get(node.state, "?"),
        "address": f"{node.address.host}:{node.address.lane_port}",
        "heard": status.HasField("heartbeat"),
        "silent_ms": status.silent_ms,
        "capacity_bytes": node.capacity_bytes,
        "used_bytes": beat.used_bytes,
        "free_bytes": beat.free_bytes,
        "blocks": beat.blocks,
        "groups": len(look.view.groups_of(node.id)),
        "former_groups": len(look.view.former_groups_of(node.id)),
        "requests": beat.requests,
        "bytes_per_second": beat.bytes_per_second,
        "repair_blocks": beat.repair_blocks,
        "repair_bytes": beat.repair_bytes,
        "quarantined_blocks": beat.quarantined_blocks,
        "sync_us": beat.sync_us,
    }


def show_nodes(look: Look) -> None:
    """Print the nodes for people."""
    rows = []
    for node in nodes_json(look):
        used = f"{100 * node['used_bytes'] / node['capacity_bytes']:.0f} %" if node["capacity_bytes"] else "?"
        state = node["state"]
        if state in ("down", "out") and node["silent_ms"]:
            state += f" {duration(node['silent_ms'] / 1000)}"
        known = node["heard"]
        rows.append(
            [
                str(node["id"]), node["name"], node["zone"], state, node["address"], size(node["capacity_bytes"]),
                used if known else "?", f"{node['blocks']:,}" if known else "?",
                str(node["groups"]) + (f"+{node['former_groups']}" if node["former_groups"] else ""),
                f"{node['sync_us'] / 1000:.1f} ms" if known else "?",
            ]
        )  # fmt: skip
    show_table(["id", "name", "zone", "state", "address", "capacity", "used", "blocks", "groups", "sync"], rows)


@app.command()
def drain(
    members: Members,
    name: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until nothing is left on it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Empty a node: it takes no new blocks, and others copy what it has."""
    with storage(members) as found:
        node = find(found.view(), name)
        found.cluster.ChangeNode(ChangeNodeRequest(node=node.id, state=NODE_DRAINING))
        if wait:
            _watch(found, node)
        left = _left(found, node)
    if as_json:
        show_json({"node": node.id, "name": node.name, "state": "draining", "groups_left": left})
    elif left:
        console.print(f"Node {node.name} drains; {left} groups to copy. `blockyard node list` shows what is left.")
    else:
        console.print(f"Node {node.name} is empty and can be removed.")


def _left(found: Storage, node: MapNode) -> int:
    view = found.view()
    return len({*view.groups_of(node.id), *view.former_groups_of(node.id)})


def _watch(found: Storage, node: MapNode) -> None:
    left = total = _left(found, node)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"draining {node.name}: groups", total=total)
        while left:
            time.sleep(LOOK_S)
            left = _left(found, node)
            progress.update(task, completed=total - left)


@app.command()
def undrain(members: Members, name: Name, as_json: AsJson = False) -> None:
    """Let a draining node take blocks again."""
    with storage(members) as found:
        node = find(found.view(), name)
        found.cluster.ChangeNode(ChangeNodeRequest(node=node.id, state=NODE_UP))
        state = STATES[found.view().node(node.id).state]
    if as_json:
        show_json({"node": node.id, "name": node.name, "state": state})
    else:
        console.print(f"Node {node.name} is {state}.")


@app.command()
def remove(
    members: Members,
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Although it may have the only copies of something: they are lost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a node for good; its id is never used again. Drain it first."""
    with storage(members) as found:
        node = find(found.view(), name)
        found.cluster.ChangeNode(ChangeNodeRequest(node=node.id, state=NODE_REMOVED, force=force))
    if as_json:
        show_json({"node": node.id, "name": node.name, "state": "removed"})
    else:
        console.print(f"Node {node.name} (id {node.id}) is removed; its process ends.")
