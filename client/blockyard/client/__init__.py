"""The client: one library with many faces.

    with blockyard.client.connect("blockyard://meta-1,meta-2/") as fs:
        with fs.open("/readings/2026.csv", "w") as file:
            file.write("…")

`filesystem` and `file` are the Python API, `aio` the same for event loops. Below them: `metadata` (session, cache,
paths), `writer` and `reader` (pure plans with thin shells), `engine` (threads and memory).
"""

from blockyard.client.connecting import connect
from blockyard.client.filesystem import Filesystem

__all__ = ["Filesystem", "connect"]
