"""From what a user has at hand to a file system: a URL, addresses, a settings file, or nothing but the environment."""

import os
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from blockyard.client.filesystem import Filesystem
from blockyard.proto import settings as settings_module
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.settings import ClientSettings

DEFAULT_PORT: Final = 7701
MEMBERS: Final = "BLOCKYARD_MEMBERS"


def connect(
    where: str | os.PathLike[str] | Iterable[str] | None = None, *, caller: Caller | None = None, **client: Any
) -> Filesystem:
    """Return the file system of a cluster.

    `where` is a URL (`blockyard://host:port,host:port/`), addresses of metadata members (`"host:port,host:port"`, or an
    iterable of such), the path of a TOML settings file, or None for what the environment says
    (`BLOCKYARD_MEMBERS`, `BLOCKYARD_CLUSTER__METASERVERS`). `client` are keys of the section [client], such as
    `write_buffer_bytes=64 << 20`. Nothing is connected yet; the first call raises Unavailable when nobody is there.
    Raises SettingsError.
    """
    path, members = _told(where)
    environ = dict(os.environ)
    if members:
        environ["BLOCKYARD_CLUSTER__METASERVERS"] = ",".join(members)
    for key, value in client.items():
        environ[f"BLOCKYARD_CLIENT__{key.upper()}"] = str(value)
    return Filesystem(settings_module.load(ClientSettings, path, environ), caller)


def _told(where: str | os.PathLike[str] | Iterable[str] | None) -> tuple[str | os.PathLike[str] | None, list[str]]:
    """Return the path of a settings file, or members' addresses."""
    if where is None:
        where = os.environ.get(MEMBERS, "")
    if isinstance(where, os.PathLike):
        return where, []
    if not isinstance(where, str):
        return None, [_with_port(each) for each in where]
    if where.startswith("blockyard://"):
        return None, [_with_port(each) for each in urlsplit(where).netloc.split(",") if each]
    if where.endswith(".toml") or os.path.isfile(where):
        return where, []
    return None, [_with_port(each.strip()) for each in where.split(",") if each.strip()]


def _with_port(address: str) -> str:
    has_port = address.rpartition("]")[2].count(":") == 1
    return address if has_port else f"{address}:{DEFAULT_PORT}"
