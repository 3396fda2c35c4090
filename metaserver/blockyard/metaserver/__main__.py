"""`python -m blockyard.metaserver`: make a data directory, or serve from it.

format --config FILE            make the directory of one of a new group's first members
join --config FILE              make the directory of a member that an existing group is going to add
restore --config FILE BACKUP    make the directory of a new group's only member from a backup
serve --config FILE             serve
"""

import argparse
import gc
import os
import secrets
import shutil
import sys
from pathlib import Path

import uvloop
from blockyard.metaserver.member import settings as derived
from blockyard.metaserver.member.group_machine import GroupMachine
from blockyard.metaserver.member.process import serve
from blockyard.metaserver.raft import DurableState, InvalidMembership
from blockyard.metaserver.storage import backup
from blockyard.metaserver.storage.checkpoint import Checkpoint
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.metaserver.storage.identity import Identity
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import logs
from blockyard.proto.disk.failures import CorruptStorage, DirectoryRefused, StorageFailed
from blockyard.proto.ids import INCARNATION, MEMBER, ClusterId
from blockyard.proto.settings import MetaserverSettings, SettingsError, load

EXIT_CONFIG = 78
EXIT_FAILED = 70


def main() -> None:
    """Run what the command line says; what is wrong is told in lines that say what to do."""
    arguments = _arguments()
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # our children are other programs; gRPC need not prepare
    try:
        settings = load(MetaserverSettings, arguments.config, os.environ)
        if not settings.cluster.id:
            raise SettingsError(
                ["cluster.id: a metadata member is told its cluster's id, 'c' and 32 hexadecimal digits"]
            )
        if arguments.action == "serve":
            _serve(settings)
        else:
            _make(settings, arguments)
    except (SettingsError, DirectoryRefused, InvalidMembership, ValueError) as error:
        sys.exit(_say(error, EXIT_CONFIG))
    except (CorruptStorage, StorageFailed, OSError) as error:
        sys.exit(_say(error, EXIT_FAILED))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="blockyard-metaserver", description="A metadata server of Blockyard.")
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in (
        ("format", "make the data directory of one of a new group's first members"),
        ("join", "make the data directory of a member that a group is going to add"),
        ("restore", "make the data directory of a new group's only member from a backup"),
        ("serve", "serve"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--config", type=Path, required=True, help="settings, TOML")
        if name == "restore":
            action.add_argument("backup", type=Path)
    return parser.parse_args()


def _serve(settings: MetaserverSettings) -> None:
    logs.configure("metaserver", level=settings.logs.level, form=settings.logs.format,
                   ids={"member": settings.metaserver.member})  # fmt: skip
    calm_collector()
    uvloop.run(serve(settings))


def calm_collector() -> None:
    """Keep Python's cycle collector from walking the caches: a full pass over a million records stops the loop.

    Young objects are looked at as ever, so cycles of requests and their errors go; what has grown old stays unwalked.
    It grows old early, while it is still in the processor's cache: to walk half a million records at once, with a
    second threshold of 50, was a tenth of the work of creates among 700,000 files.
    """
    gc.freeze()
    gc.set_threshold(10_000, 5, 1_000_000)


def _make(settings: MetaserverSettings, arguments: argparse.Namespace) -> None:
    path = Path(settings.metaserver.data_dir)
    identity = Identity(
        ClusterId(settings.cluster.id),
        MEMBER.check(settings.metaserver.member),
        INCARNATION.check(secrets.randbits(63) + 1),
    )
    with_state = settings.metaserver.role != "witness"
    if arguments.action == "restore":
        _restore(path, identity, arguments.backup, settings)
        return
    first = arguments.action == "format"
    durable = DurableState.bootstrap(derived.founding_membership(settings)) if first else DurableState.joining()
    DataDirectory.create(path, identity, durable, with_state=with_state)


def _restore(path: Path, identity: Identity, source: Path, settings: MetaserverSettings) -> None:
    group = derived.founding_membership(settings)
    if [member.id for member in group.members] != [derived.member_id(settings)]:
        raise SettingsError(["metaserver.group: a restored group begins with this member alone; join the others to it"])
    staging = path.with_name(path.name + ".restoring")
    try:
        checkpoint, cluster = backup.restore(source, staging)
        if cluster != identity.cluster:
            raise DirectoryRefused(
                f"cluster.id: {source} is a backup of cluster {cluster}, the settings say {identity.cluster}; "
                "write the backup's there, so that the storage nodes know their metadata again"
            )
        if checkpoint.base.membership.kind(derived.member_id(settings)) is not None:
            raise DirectoryRefused(
                f"metaserver.member: {int(identity.member)} was a member when {source} was made; give a new id, "
                "so that the old member is refused if it comes back"
            )
        _skip_ahead(checkpoint, identity)
        durable = backup.restored_state(checkpoint.base, group)
        DataDirectory.create(path, identity, durable, with_state=True, state_from=checkpoint)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _skip_ahead(checkpoint: Checkpoint, identity: Identity) -> None:
    """Pass over the ids that may have been given out after the backup was made."""
    store = StateStore(checkpoint.path)
    try:
        machine = GroupMachine(store, identity.cluster)
        machine.skip_ahead()
        store.apply(machine.changes(), checkpoint.base.index)
        store.flush()
    finally:
        store.close()


def _say(error: BaseException, status: int) -> int:
    sys.stderr.write(f"blockyard-metaserver: {error}\n")
    return status


if __name__ == "__main__":
    main()
