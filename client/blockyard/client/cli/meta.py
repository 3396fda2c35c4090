"""`blockyard meta …`: how the metadata group is, and what operators do to it."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from blockyard.client.cli.group import AsJson, Group, Members, admin
from blockyard.client.cli.output import console, say_error, show_json, show_table
from blockyard.proto import errors
from blockyard.proto import raft_pb2 as pb
from blockyard.proto.common_pb2 import Address
from blockyard.proto.raft_pb2_grpc import MetaAdminStub
from rich.progress import Progress

app = typer.Typer(
    help="The metadata group: status, leadership, members, snapshots, backup, check.", no_args_is_help=True
)

Config = Annotated[Path, typer.Option("--config", help="The member's settings, TOML.")]

_ROLES = {pb.ROLE_LEADER: "leader", pb.ROLE_FOLLOWER: "follower", pb.ROLE_CANDIDATE: "candidate"}
_KINDS = {pb.MEMBER_DATA: "data", pb.MEMBER_WITNESS: "witness", pb.MEMBER_LEARNER: "learner"}
_WITNESS = {pb.WITNESS_PARKED: "parked", pb.WITNESS_ENGAGED: "engaged", pb.WITNESS_NONE: "none"}


@app.command()
def status(members: Members, as_json: AsJson = False) -> None:
    """Show roles, terms, indexes, lag, the witness and the last failover."""
    found = Group(members).statuses()
    view = _view(found)
    if as_json:
        show_json(view)
    else:
        _show(view)
    if view["leader"] is None:
        raise typer.Exit(2)


def _view(found: dict[str, pb.MetaStatusReply | errors.BlockyardError]) -> dict[str, Any]:
    replies = {address: reply for address, reply in found.items() if isinstance(reply, pb.MetaStatusReply)}
    leaders = [reply for reply in replies.values() if reply.role == pb.ROLE_LEADER]
    leader = max(leaders, key=lambda reply: reply.term, default=None)
    return {
        "cluster": next((reply.cluster for reply in replies.values()), None),
        "leader": leader.member if leader else None,
        "witness": _WITNESS.get(leader.witness, "none") if leader else "unknown",
        "read_only": bool(leader and leader.read_only),
        "last_failover": _failover(leader),
        "inodes": leader.inodes if leader else None,
        "sessions": leader.sessions if leader else None,
        "members": [_member(address, reply, leader) for address, reply in found.items()],
    }


def _failover(leader: pb.MetaStatusReply | None) -> dict[str, Any] | None:
    if leader is None or not leader.last_failover_ns:
        return None
    at = datetime.fromtimestamp(leader.last_failover_ns / 1e9, UTC).isoformat(timespec="seconds")
    return {"at": at, "leaderless_ms": leader.last_failover_ms}


def _member(
    address: str, reply: pb.MetaStatusReply | errors.BlockyardError, leader: pb.MetaStatusReply | None
) -> dict[str, Any]:
    if isinstance(reply, errors.BlockyardError):
        return {"address": address, "answers": False, "why": reply.message}
    seen = {status.member.id: status for status in leader.members} if leader else {}
    known = seen.get(reply.member)
    return {
        "address": address,
        "answers": True,
        "member": reply.member,
        "kind": _KINDS.get(known.member.kind, "?") if known else "?",
        "role": _ROLES.get(reply.role, "?"),
        "term": reply.term,
        "first_index": reply.first_index,
        "last_index": reply.last_index,
        "commit_index": reply.commit_index,
        "applied_index": reply.applied_index,
        "lag_entries": known.lag_entries if known else None,
        "free_bytes": reply.free_bytes,
        "version": reply.version,
    }


def _show(view: dict[str, Any]) -> None:
    if view["leader"] is None:
        console.print("No leader: the group does not serve. Are two of its members running and in reach?")
    else:
        more = "; a disk is nearly full: only deletes are taken" if view["read_only"] else ""
        console.print(f"Member {view['leader']} leads; the witness is {view['witness']}{more}.")
    rows = []
    for member in view["members"]:
        if not member["answers"]:
            rows.append([member["address"], "–", "does not answer", *[""] * 5])
            continue
        numbers = [str(member[key]) for key in ("term", "last_index", "commit_index", "applied_index", "lag_entries")]
        rows.append([member["address"], str(member["member"]), f"{member['role']} ({member['kind']})", *numbers])
    show_table(["address", "member", "role", "term", "last", "commit", "applied", "lag"], rows)
    if view["last_failover"]:
        failover = view["last_failover"]
        console.print(f"Leader since {failover['at']}, after {failover['leaderless_ms']} ms without one.")


@app.command()
def transfer(
    members: Members,
    to: Annotated[int, typer.Option("--to", help="Member id; the other data member if not given.")] = 0,
) -> None:
    """Hand leadership to another data member."""
    Group(members).on_leader(MetaAdminStub, lambda stub: stub.Transfer(pb.TransferRequest(member=to)))
    console.print("Leadership is being handed over.")


@app.command()
def add(
    members: Members,
    member: Annotated[int, typer.Option("--id", help="A member id that was never used.", min=1)],
    address: Annotated[str, typer.Option(help="Lane address of the new member, HOST:PORT.")],
    witness: Annotated[bool, typer.Option("--witness", help="It is a witness.")] = False,
    replaces: Annotated[int, typer.Option("--replaces", help="Member id it takes the place of.")] = 0,
) -> None:
    """Add a member that was made with `blockyard meta join` and is running; with --replaces, replace one."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise typer.BadParameter("an address is HOST:PORT", param_hint="--address")
    new = pb.GroupMember(
        id=member,
        kind=pb.MEMBER_WITNESS if witness else pb.MEMBER_DATA,
        address=Address(host=host, lane_port=int(port)),
    )
    action = pb.MEMBERSHIP_REPLACE if replaces else pb.MEMBERSHIP_ADD
    _change(members, pb.ChangeMembershipRequest(action=action, member=new, replaces=replaces))


@app.command()
def remove(members: Members, member: Annotated[int, typer.Option("--id", help="Member id.", min=1)]) -> None:
    """Remove a member for good; its id is never used again."""
    request = pb.ChangeMembershipRequest(action=pb.MEMBERSHIP_REMOVE, member=pb.GroupMember(id=member))
    _change(members, request)


def _change(members: str, request: pb.ChangeMembershipRequest) -> None:
    with console.status("Changing the group; a new member first catches up …"):
        reply: pb.ChangeMembershipReply = Group(members).on_leader(
            MetaAdminStub, lambda stub: stub.ChangeMembership(request, timeout=1200)
        )
    now = ", ".join(f"{each.id} ({_KINDS[each.kind]})" for each in reply.membership.members)
    console.print(f"The group is now: {now}.")


@app.command()
def snapshot(members: Members, as_json: AsJson = False) -> None:
    """Take a checkpoint of the leader's namespace."""
    reply: pb.TakeSnapshotReply = Group(members).on_leader(
        MetaAdminStub, lambda stub: stub.TakeSnapshot(pb.TakeSnapshotRequest())
    )
    if as_json:
        show_json({"index": reply.index, "bytes": reply.bytes})
    else:
        console.print(f"Checkpoint at index {reply.index}, {reply.bytes:,} bytes, shared with the store by hard links.")


@app.command()
def backup(members: Members, to: Annotated[Path, typer.Argument(help="File to write; it appears only whole.")]) -> None:
    """Copy the namespace into one file, from which `blockyard meta restore` makes a new group."""
    unfinished = to.with_name(to.name + ".unfinished")
    if not to.parent.is_dir():
        raise typer.BadParameter(f"there is no directory {to.parent}: make it first, or name another file")
    if to.is_dir():
        raise typer.BadParameter(f"{to} is a directory: name a file in it")

    def copy(stub: Any) -> int:
        size = 0
        with unfinished.open("wb") as file, Progress(console=console, transient=True) as progress:
            task = progress.add_task("backing up", total=None)
            for part in stub.Backup(pb.BackupRequest(), timeout=3600):
                message = part.SerializeToString()
                file.write(_varint(len(message)) + message)
                size += len(message)
                progress.update(task, completed=size, description=f"backing up: {size >> 20} MiB")
            file.flush()
            os.fsync(file.fileno())
        return size

    try:
        size = Group(members).on_leader(MetaAdminStub, copy)
        unfinished.rename(to)
    finally:
        unfinished.unlink(missing_ok=True)
    console.print(f"{to}: {size:,} bytes.")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


@app.command()
def fsck(
    members: Members,
    as_json: AsJson = False,
    compare: Annotated[bool, typer.Option("--hash", help="Also hash the whole state, to compare members.")] = False,
) -> None:
    """Check the namespace of every data member that answers; exits with 1 when something is wrong."""
    results = []
    for address, reply in Group(members).statuses().items():
        if isinstance(reply, pb.MetaStatusReply) and reply.applied_index:
            results.append(_check(address, compare))
    if as_json:
        show_json({"members": results})
    for result in results if not as_json else []:
        seen = f"{result['inodes']:,} inodes, {result['dentries']:,} names, {result['slices']:,} slices"
        verdict = "NOT SOUND:" if result["findings"] else "sound."
        console.print(f"{result['address']}: {seen} at index {result['applied_index']}: {verdict}")
        for finding in result["findings"]:
            console.print(f"  {finding['kind']} (inode {finding['inode']}): {finding['message']}")
    if not results:
        say_error("no data member answers")
    if not results or any(result["findings"] for result in results):
        raise typer.Exit(1)


def _check(address: str, compare: bool) -> dict[str, Any]:
    findings: list[dict[str, Any]] = []
    last = pb.MetaFsckReply()
    with admin(address, timeout_s=3600) as stub, console.status(f"checking {address} …"):
        for reply in stub.Fsck(pb.MetaFsckRequest(hash=compare), timeout=3600):
            last = reply
            findings += [{"kind": each.kind, "inode": each.inode, "message": each.message} for each in reply.findings]
    return {
        "address": address,
        "inodes": last.inodes,
        "dentries": last.dentries,
        "slices": last.slices,
        "applied_index": last.applied_index,
        "state_hash": f"{last.state_hash:016x}" if compare else None,
        "findings": findings,
    }


@app.command(name="format")
def format_directory(config: Config) -> None:
    """Make the data directory of one of a new group's first members, on this machine."""
    _server("format", config)


@app.command()
def join(config: Config) -> None:
    """Make the data directory of a member that a group is going to add, on this machine."""
    _server("join", config)


@app.command()
def restore(config: Config, source: Annotated[Path, typer.Argument(metavar="BACKUP")]) -> None:
    """Make the data directory of a new group's only member from a backup, on this machine."""
    _server("restore", config, str(source))


def _server(action: str, config: Path, *more: str) -> None:
    command = [sys.executable, "-m", "blockyard.metaserver", action, "--config", str(config), *more]
    done = subprocess.run(command, check=False)
    if done.returncode == 0:
        console.print(f"{action}: done.")
    raise typer.Exit(done.returncode)
