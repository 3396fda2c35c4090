"""`blockyard-storagenode`, or `python -m blockyard.storagenode`: one storage node, which is one disk.

serve --config FILE                    serve
serve --config FILE --rebuild-index    make the store's index anew from what is on the disk, then serve
"""

import argparse
import os
import sys
import threading
from pathlib import Path

from blockyard.proto import logs
from blockyard.proto.disk.failures import CorruptStorage, DirectoryRefused, StorageFailed
from blockyard.proto.settings import SettingsError, StorageNodeSettings, load
from blockyard.storagenode.node.process import serve

EXIT_CONFIG = 78
EXIT_FAILED = 70
_log = logs.get(__name__)


def main() -> None:
    """Run what the command line says; what is wrong is told in lines that say what to do."""
    arguments = _arguments()
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    threading.excepthook = _broken
    try:
        settings = load(StorageNodeSettings, arguments.config, os.environ)
        logs.configure("storagenode", level=settings.logs.level, form=settings.logs.format,
                       ids={"node": settings.storagenode.name})  # fmt: skip
        serve(settings, arguments.rebuild_index)
    except (SettingsError, DirectoryRefused) as error:
        sys.exit(_say(error, EXIT_CONFIG))
    except (CorruptStorage, StorageFailed, OSError) as error:
        sys.exit(_say(error, EXIT_FAILED))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="blockyard-storagenode", description="A storage node of Blockyard.")
    actions = parser.add_subparsers(dest="action", required=True)
    serving = actions.add_parser("serve", help="serve")
    serving.add_argument("--config", type=Path, required=True, help="settings, TOML")
    serving.add_argument("--rebuild-index", action="store_true", help="first make the index anew from the disk")
    return parser.parse_args()


def _broken(found: threading.ExceptHookArgs) -> None:
    """A thread died of what nobody expected: a node without it would only seem to work, so the process ends."""
    thread = found.thread.name if found.thread else "?"
    _log.critical("thread_failed", thread=thread, exc_info=found.exc_value)
    os._exit(EXIT_FAILED)


def _say(error: BaseException, status: int) -> int:
    sys.stderr.write(f"blockyard-storagenode: {error}\n")
    return status


if __name__ == "__main__":
    main()
