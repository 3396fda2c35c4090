"""`blockyard`: the entry point, and the commands that need no cluster."""

import importlib.metadata
import os
import statistics
import sys
import time
from typing import Annotated, Any, cast

import grpc
import typer
from blockyard.client.cli import block, demo, meta, node, oplog, status, upkeep
from blockyard.client.cli.output import console, say_error, show_json
from blockyard.proto.errors import BlockyardError
from blockyard.proto.lane import Channel
from blockyard.proto.probe_pb2 import ProbeRequest
from blockyard.proto.probe_pb2_grpc import ProbeStub

app = typer.Typer(
    name="blockyard",
    help="Blockyard: a distributed block file system that runs work beside its data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(importlib.metadata.version("blockyard"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Options that every command has."""
    if debug:
        os.environ["BLOCKYARD_DEBUG"] = "1"


app.command()(status.status)
app.add_typer(node.app, name="node")
app.add_typer(block.app, name="block")
app.command()(upkeep.scrub)
app.command()(upkeep.gc)
app.add_typer(meta.app, name="meta")
app.command()(oplog.oplog)
app.command()(demo.demo)


@app.command()
def ping(
    address: Annotated[str, typer.Argument(help="Lane address of a process: HOST:PORT or unix:/PATH.")],
    count: Annotated[int, typer.Option(help="How many times to ask.", min=1, max=100_000)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for machines.")] = False,
) -> None:
    """Ask a process whether it answers, and how fast."""
    with Channel(address, timeout_s=10) as channel:
        stub: Any = ProbeStub(cast(grpc.Channel, channel))
        stub.Echo(ProbeRequest())
        times_us = []
        for _ in range(count):
            started = time.perf_counter()
            stub.Echo(ProbeRequest(body=b"ping"))
            times_us.append((time.perf_counter() - started) * 1e6)
    median, worst = statistics.median(times_us), max(times_us)
    if as_json:
        show_json({"address": address, "count": count, "median_us": median, "worst_us": worst})
    else:
        console.print(f"{address} answers: median {median:.0f} µs, worst {worst:.0f} µs of {count}")


def main() -> None:
    """Run the command line; an error is one line that says what to do, a traceback only with `--debug`."""
    try:
        app()
    except BlockyardError as error:
        if os.environ.get("BLOCKYARD_DEBUG"):
            raise
        say_error(error.message if error.subject in error.message else f"{error.subject}: {error.message}")
        sys.exit(1)
    except OSError as error:  # a file of this machine that a command reads or writes
        if os.environ.get("BLOCKYARD_DEBUG"):
            raise
        say_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        say_error("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
