"""`blockyard oplog`: who did what to the namespace, when and from where."""

import errno
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from blockyard.client.cli.group import Group, Members
from blockyard.client.cli.output import console, show_json
from blockyard.proto.metadata_pb2 import OperationLogRequest, OperationRecord
from blockyard.proto.metadata_pb2_grpc import MetadataStub

FOLLOW_S = 10 * 365 * 86_400.0
_AGO = re.compile(r"^(\d+)(s|min|h|d)$")
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


def since_ns(text: str) -> int:
    """Read `10min`, `2h`, `3d` as so long ago, or an ISO date and time; return ns. Raises BadParameter."""
    if not text:
        return 0
    ago = _AGO.match(text)
    try:
        distance = timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else None
        moment = datetime.now(UTC) - distance if distance else datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give 30s, 10min, 2h, 3d or a date like 2026-11-20T08:00") from error
    return int(moment.timestamp() * 1e9)


def oplog(
    members: Members,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new rows as they come.")] = False,
    since: Annotated[str, typer.Option(help="10min, 2h, 3d ago, or a date and time.")] = "",
    path: Annotated[str, typer.Option(help="Only paths that start so.")] = "",
    user: Annotated[int | None, typer.Option(help="Only this user id.")] = None,
    limit: Annotated[int, typer.Option(help="Most rows; 0 for all.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
) -> None:
    """Show the operation log: what, who, when, from where, outcome."""
    request = OperationLogRequest(since_ns=since_ns(since), path_prefix=path.encode(), follow=follow, limit=limit)
    if user is not None:
        request.uid = user

    def read(stub: Any) -> None:
        for record in stub.OperationLog(request, timeout=FOLLOW_S if follow else 600):
            if as_json:
                show_json(_as_dict(record))
            else:
                _show(record)

    Group(members).on_leader(MetadataStub, read)


def _as_dict(record: OperationRecord) -> dict[str, Any]:
    return {
        "index": record.index,
        "time": _time(record),
        "operation": record.operation,
        "path": record.path.decode(errors="backslashreplace"),
        "new_name": record.new_name.decode(errors="backslashreplace"),
        "uid": record.uid,
        "gid": record.gid,
        "client": record.client,
        "session": f"{record.session:016x}",
        "inode": record.inode,
        "outcome": errno.errorcode.get(record.errno, str(record.errno)) if record.errno else "ok",
    }


def _show(record: OperationRecord) -> None:
    row = _as_dict(record)
    arrow = f" → {row['new_name']}" if row["new_name"] else ""
    who = f"uid {row['uid']}" + (f" at {row['client']}" if row["client"] else "")
    line = f"{row['time']}  {row['outcome']:8} {row['operation']:14} {row['path'] or row['inode']}{arrow}  ({who})"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _time(record: OperationRecord) -> str:
    return datetime.fromtimestamp(record.time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
