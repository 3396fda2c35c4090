"""One number for the whole agreed state, equal on all data members at one applied index."""

from hashlib import blake2b
from struct import Struct
from typing import Final

from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import KeyValueStore, Transaction, end_of_prefix

_LENGTHS: Final = Struct(">II")


def state_hash(store: KeyValueStore | Transaction) -> int:
    """Return 64 bits over every row but the member's own, in the order of keys. Streams; memory stays small."""
    digest = blake2b(digest_size=8)
    for prefix in sorted(keys.AGREED):
        for key, value in store.scan(prefix, end_of_prefix(prefix)):
            digest.update(_LENGTHS.pack(len(key), len(value)))
            digest.update(key)
            digest.update(value)
    return int.from_bytes(digest.digest(), "big")
