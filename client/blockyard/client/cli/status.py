"""`blockyard status`: how everything is, in one sentence and then in detail."""

from typing import Any

import typer
from blockyard.client.cli import health
from blockyard.client.cli.group import AsJson, Group, Members
from blockyard.client.cli.node import nodes_json, show_nodes
from blockyard.client.cli.output import console, show_json
from blockyard.client.cli.storage import Look, storage
from blockyard.proto.raft_pb2 import ROLE_LEADER, MetaStatusReply


def status(members: Members, as_json: AsJson = False) -> None:
    """Say whether data is safe, and why not; exits with 1 while some of it cannot be written."""
    answers = Group(members).statuses()
    replies = [reply for reply in answers.values() if isinstance(reply, MetaStatusReply)]
    metadata = {
        "members": len(answers),
        "answering": len(replies),
        "leader": next((reply.member for reply in replies if reply.role == ROLE_LEADER), None),
    }
    with storage(members) as found:
        look = found.look()
    reasons = health.reasons(look)
    if as_json:
        show_json(_json(look, reasons, metadata))
    else:
        _show(look, reasons, metadata)
    if health.level(reasons) == "paused":
        raise typer.Exit(1)


def _json(look: Look, reasons: list[health.Reason], metadata: dict[str, Any]) -> dict[str, Any]:
    reply = look.status
    return {
        "health": health.level(reasons),
        "reasons": [reason.text for reason in reasons],
        "metadata": metadata,
        "map_epoch": look.view.epoch,
        "groups": {"all": reply.groups, "degraded": reply.degraded_groups, "paused": reply.paused_groups},
        "repair": health.repair_json(health.Repair.of(look)),
        "reclaim": {"blocks": reply.reclaim_blocks},
        "nodes": nodes_json(look),
    }


def _show(look: Look, reasons: list[health.Reason], metadata: dict[str, Any]) -> None:
    console.print(health.sentence(look, reasons))
    for reason in reasons:
        console.print(f"  {reason.text}")
    answering = f"{metadata['answering']} of {metadata['members']} members answer"
    console.print(f"Metadata: member {metadata['leader'] or '?'} leads, {answering}.")
    console.print()
    show_nodes(look)
