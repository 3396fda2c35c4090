"""`blockyard scrub` and `blockyard gc`: what nodes do by themselves now and then, done now."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer
from blockyard.client.cli.group import AsJson, Members
from blockyard.client.cli.output import console, say_error, show_json, show_table, size
from blockyard.client.cli.storage import Storage, chosen, storage
from blockyard.proto import errors
from blockyard.proto.cluster_map import MapNode
from blockyard.proto.storage_pb2 import (
    CollectGarbageReply,
    CollectGarbageRequest,
    NodeInfoReply,
    NodeInfoRequest,
    StartScrubReply,
    StartScrubRequest,
)
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

LOOK_S = 0.2
DAY_S = 86_400.0
COLUMNS = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())

Names = Annotated[list[str] | None, typer.Argument(metavar="[NODE]…", help="Nodes; all that answer if none is named.")]


def scrub(members: Members, names: Names = None, as_json: AsJson = False) -> None:
    """Have nodes read and check all their replicas now. It goes on when this command is interrupted."""
    with storage(members) as found, _bars(as_json) as progress:
        nodes = chosen(found.view(), names or [])
        with ThreadPoolExecutor(max(1, len(nodes))) as threads:
            results = list(threads.map(lambda node: _scrub(found, node, progress), nodes))
    _finish(results, as_json, ["node", "replicas read", "put aside"], ["name", "blocks", "quarantined_blocks"])


def _scrub(found: Storage, node: MapNode, progress: Progress) -> dict[str, Any]:
    task = progress.add_task(f"{node.name}: reading", total=1.0)
    result: dict[str, Any] = {"node": node.id, "name": node.name}
    try:
        stub = found.node(node)
        started: StartScrubReply = stub.StartScrub(StartScrubRequest())
        while True:
            info: NodeInfoReply = stub.NodeInfo(NodeInfoRequest())
            if not info.scrubbing:
                break
            progress.update(task, completed=info.scrub_progress)
            time.sleep(LOOK_S)
    except errors.BlockyardError as error:
        return {**result, "error": error.message}
    progress.update(task, completed=1.0)
    return {**result, "blocks": started.blocks, "quarantined_blocks": info.quarantined_blocks}


def gc(
    members: Members,
    names: Names = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be dropped.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have nodes drop blocks that nothing refers to: left by writers that crashed, and older than an hour."""
    request = CollectGarbageRequest(dry_run=dry_run)
    with storage(members) as found, _bars(as_json) as progress:
        nodes = chosen(found.view(), names or [])
        with ThreadPoolExecutor(max(1, len(nodes))) as threads:
            results = list(threads.map(lambda node: _collect(found, node, request, progress), nodes))
    for result in results:
        result["orphans_size"] = size(result.get("orphan_bytes", 0))
    _finish(
        results,
        as_json,
        ["node", "looked at", "orphans", "their size", "dropped"],
        ["name", "blocks", "orphans", "orphans_size", "dropped"],
    )


def _collect(found: Storage, node: MapNode, request: CollectGarbageRequest, progress: Progress) -> dict[str, Any]:
    task: TaskID = progress.add_task(f"{node.name}: looking for orphans", total=1.0)
    result: dict[str, Any] = {"node": node.id, "name": node.name}
    last = CollectGarbageReply()
    try:
        for last in found.node(node).CollectGarbage(request, timeout=DAY_S):
            progress.update(task, completed=last.progress)
    except errors.BlockyardError as error:
        return {**result, "error": error.message}
    return {
        **result,
        "blocks": last.blocks,
        "orphans": last.orphans,
        "orphan_bytes": last.orphan_bytes,
        "dropped": last.dropped,
    }


def _bars(as_json: bool) -> Progress:
    """Return a bar per node; none where nobody looks."""
    return Progress(*COLUMNS, console=console, transient=True, disable=as_json or not console.is_terminal)


def _finish(results: list[dict[str, Any]], as_json: bool, headings: list[str], keys: list[str]) -> None:
    """Show what every node did; exit with 1 when one of them could not."""
    failed = [result for result in results if "error" in result]
    if as_json:
        show_json({"nodes": results})
    else:
        show_table(headings, [[_cell(result[key]) for key in keys] for result in results if "error" not in result])
        for result in failed:
            say_error(f"{result['name']}: {result['error']}")
    if failed:
        raise typer.Exit(1)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
