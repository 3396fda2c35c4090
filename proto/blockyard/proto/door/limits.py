"""What gRPC is told about sizes, keepalive and retries. Ours are the deadlines, errors and retries, not gRPC's."""

from typing import Final

import grpc
from blockyard.proto.settings import Door

Options = list[tuple[str, int]]

METADATA_LIMIT_BYTES: Final = 64 << 10
"""Room for an error with a long path; foreign clients allow 8 KiB, which `error_metadata` stays below."""

LONGEST_PATH_BYTES: Final = 2048
LONGEST_MESSAGE_BYTES: Final = 1024

STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def server_options(settings: Door) -> Options:
    """Return a server's channel arguments. A port that is taken is an error: it is never shared."""
    return [
        *_both(settings),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
    ]


def channel_options(settings: Door) -> Options:
    """Return a channel's arguments. A lost server is tried again within two seconds."""
    return [
        *_both(settings),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _both(settings: Door) -> Options:
    return [
        ("grpc.max_receive_message_length", settings.message_limit_bytes),
        ("grpc.max_send_message_length", settings.message_limit_bytes),
        ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
        ("grpc.keepalive_time_ms", settings.keepalive_ms),
        ("grpc.keepalive_timeout_ms", min(settings.keepalive_ms, 10_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
