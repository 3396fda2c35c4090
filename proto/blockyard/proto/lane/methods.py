"""Finds methods: what generated code registers with a server, and what a stub asks of a channel.

A method's id on the lane is the CRC32C of its full name, `/package.Service/Method`; both ends compute it, and two
methods with one id are refused when they are registered.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from blockyard.proto import options_pb2
from blockyard.proto.metrics import MethodMetrics, TransportMetrics
from crc32c import crc32c
from google.protobuf import descriptor_pool

Behaviour = Callable[[Any, Any], Any]


@cache
def method_id(name: str) -> int:
    """Return the id of the method with the full name `/package.Service/Method`."""
    return crc32c(name.encode())


@cache
def payload_direction(name: str) -> int:
    """Return which messages of a method carry payload: a value of the contract's enum `Payload`."""
    service, _, method = name.lstrip("/").rpartition("/")
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    except KeyError:
        return options_pb2.PAYLOAD_NONE
    extension: Any = options_pb2.payload
    return int(descriptor.GetOptions().Extensions[extension])


def carries_request_payload(name: str) -> bool:
    """Return whether requests of the method carry payload."""
    return payload_direction(name) in (options_pb2.PAYLOAD_REQUEST, options_pb2.PAYLOAD_BOTH)


def carries_reply_payload(name: str) -> bool:
    """Return whether replies of the method carry payload."""
    return payload_direction(name) in (options_pb2.PAYLOAD_RESPONSE, options_pb2.PAYLOAD_BOTH)


@dataclass(frozen=True, slots=True)
class Method:
    """A method that a server offers."""

    name: str
    behaviour: Behaviour
    deserialize: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]
    request_streaming: bool
    response_streaming: bool
    request_payload: bool
    reply_payload: bool
    metrics: MethodMetrics


class MethodTable:
    """The methods of a server by their lane id; takes what `add_…Servicer_to_server` hands to a gRPC server."""

    def __init__(self, metrics: TransportMetrics) -> None:
        self._metrics = metrics
        self._by_id: dict[int, Method] = {}

    def get(self, identifier: int) -> Method | None:
        """Return the method with that id, None when there is none."""
        return self._by_id.get(identifier)

    def names(self) -> Iterable[str]:
        """Return the full names of all methods."""
        return [method.name for method in self._by_id.values()]

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Part of a gRPC server's interface that generated code calls; the registered handlers say it all."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the handlers of one service, as generated code gives them."""
        for short, handler in handlers.items():
            self._add(f"/{service}/{short}", handler)

    def _add(self, name: str, handler: Any) -> None:
        identifier = method_id(name)
        known = self._by_id.get(identifier)
        if known is not None:
            raise ValueError(
                f"{name} and {known.name} share the lane id {identifier:#x}: rename one, or register it once"
            )
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        self._by_id[identifier] = Method(
            name,
            behaviour,
            handler.request_deserializer,
            handler.response_serializer,
            handler.request_streaming,
            handler.response_streaming,
            carries_request_payload(name),
            carries_reply_payload(name),
            self._metrics.method(name),
        )
