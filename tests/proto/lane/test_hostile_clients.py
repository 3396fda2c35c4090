"""Whatever comes to a server: a clear error or a closed connection, a counted metric, and nobody else harmed."""

import random
import socket
import threading
from collections.abc import Iterator

import pytest
from blockyard.proto import errors, probe
from blockyard.proto.lane import Channel, Limits, frame
from blockyard.proto.lane.frame import HEADER
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest, PullRequest, PushRequest

from tests.proto.lane.peers import (
    CHAT,
    COUNT,
    ECHO,
    KINDS,
    PULL,
    PUSH,
    SUM,
    Peer,
    Running,
    connected,
    open_descriptors,
    resident_bytes,
    running,
    stub_of,
    wait_until,
)

LIMITS = Limits(max_message_bytes=100_000, max_payload_bytes=1 << 20, stream_window=8, max_calls=16)
STALL_S = 0.3


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A server, with a bystander whose calls must go on as if nothing were."""
    with running(request.param, limits=LIMITS, stall_s=STALL_S) as server, connected(server) as bystander:
        echo(bystander)
        probe._pattern_file()  # opened once in a process
        threads, descriptors = threading.active_count(), open_descriptors()
        yield server
        echo(bystander, call=2)
        wait_until(lambda: server.open_connections == 1, "only the bystander is left")
        wait_until(lambda: threading.active_count() <= threads, "no thread is left behind")
        wait_until(lambda: open_descriptors() <= descriptors, "no descriptor is left behind")


def echo(peer: Peer, call: int = 1) -> None:
    """Make a call; it is answered."""
    peer.send(frame.CALL, call, ProbeRequest(body=b"x"), method=ECHO)
    answer = peer.receive()
    assert answer is not None
    assert (answer.kind, answer.call) == (frame.REPLY, call)


def head(kind: int, message_bytes: int = 0, payload_bytes: int = 0, version: int = 1, call: int = 9) -> bytes:
    """Return a header that may announce anything."""
    return HEADER.pack(b"BY", version, kind, ECHO, call, 0, message_bytes, payload_bytes)


BAD_BYTES = {
    "a bad magic": (b"NO" + bytes(30), "magic", errors.MalformedRequest),
    "garbage": (bytes(range(256)) * 40, "magic", errors.MalformedRequest),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", "magic", errors.MalformedRequest),
    "a bad version": (head(frame.CALL, version=99), "version", errors.MalformedRequest),
    "an unknown kind": (head(77), "kind", errors.MalformedRequest),
    "kind zero": (head(0), "kind", errors.MalformedRequest),
    "a message over the limit": (head(frame.CALL, 100_001), "message_length", errors.TooLarge),
    "a message of 4 GiB": (head(frame.CALL, 2**32 - 1), "message_length", errors.TooLarge),
    "a payload over the limit": (head(frame.CALL, 0, (1 << 20) + 1), "payload_length", errors.TooLarge),
    "a payload of 2^63": (head(frame.CALL, 0, 2**63), "payload_length", errors.TooLarge),
    "payload on a PING": (head(frame.PING, 0, 1), "payload_length", errors.TooLarge),
    "a second HELLO": (head(frame.HELLO, call=0), "protocol", errors.MalformedRequest),
    "a reply": (head(frame.REPLY), "protocol", errors.MalformedRequest),
    "an error": (head(frame.ERROR), "protocol", errors.MalformedRequest),
    "a call without a number": (head(frame.CALL, call=0), "call", errors.MalformedRequest),
}


@pytest.mark.parametrize("what", BAD_BYTES)
def test_bytes_that_are_no_frame_end_the_connection_with_a_word(server: Running, what: str) -> None:
    data, reason, kind = BAD_BYTES[what]
    with connected(server) as peer:
        peer.sock.sendall(data)
        said = peer.last_words()
    assert server.refused == {reason: 1}
    # With bytes unread the kernel resets the connection, and the word may be lost on the way.
    assert type(said) is kind or said is None


@pytest.mark.parametrize("what", BAD_BYTES)
def test_bytes_that_are_no_hello_end_the_connection(server: Running, what: str) -> None:
    with connected(server, hello=False) as peer:
        peer.sock.sendall(BAD_BYTES[what][0])
        peer.last_words()
    wait_until(lambda: sum(server.refused.values()) == 1, "it is counted, once")


def test_a_call_before_the_hello_is_refused_and_so_is_all_that_follows(server: Running) -> None:
    with connected(server, hello=False) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(), method=ECHO)
        peer.sock.sendall(frame.encode(frame.HELLO, 0, b""))
        kinds = [item.kind for item in peer.answers()]
    assert kinds in ([frame.HELLO, frame.GOAWAY], [frame.HELLO])
    assert server.refused == {"handshake": 1}


def test_a_peer_of_another_version_is_told(server: Running) -> None:
    with connected(server, hello=False) as peer:
        peer.sock.sendall(frame.encode(frame.HELLO, 0, b"\x08\x07\x10\x09\x28\x01\x30\x01"))  # versions 7 to 9
        assert type(peer.last_words()) is errors.VersionMismatch
    assert server.refused == {"handshake": 1}


def test_an_unknown_method_is_told_and_the_connection_goes_on(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, b"whatever", method=0xDEAD)
        answer = peer.receive()
        assert answer is not None
        assert (answer.kind, answer.call) == (frame.ERROR, 1)
        echo(peer, 2)
    assert server.refused == {"unknown_method": 1}


def test_a_request_that_does_not_parse_is_told_and_the_connection_goes_on(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, b"\xff\xff\xff", method=ECHO)
        answer = peer.receive()
        assert answer is not None
        assert answer.kind == frame.ERROR
        echo(peer, 2)


def test_payload_on_a_method_that_takes_none_is_told_and_the_connection_goes_on(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(), payload=bytes(500_000), method=ECHO)
        answer = peer.receive()
        assert answer is not None
        assert answer.kind == frame.ERROR
        echo(peer, 2)


def test_a_number_in_use_ends_the_connection(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(count=1_000_000), method=COUNT)
        peer.send(frame.CALL, 1, ProbeRequest(), method=ECHO)
        peer.last_words()
    assert server.refused == {"call": 1}


def test_a_message_without_credit_ends_the_connection(server: Running) -> None:
    with connected(server, limits=Limits(stream_window=1)) as peer:  # so the second answer waits, and no credit comes
        peer.send(frame.CALL, 1, method=CHAT)
        for _ in range(2 * LIMITS.stream_window + 1):
            peer.send(frame.MESSAGE, 1, ProbeRequest())
        peer.last_words()
    assert server.refused == {"credit": 1}


@pytest.mark.parametrize("kind", [frame.MESSAGE, frame.END])
def test_a_request_after_the_last_ends_the_connection(server: Running, kind: int) -> None:
    with connected(server, limits=Limits(stream_window=1)) as peer:
        peer.send(frame.CALL, 1, method=CHAT)
        peer.send(frame.MESSAGE, 1, ProbeRequest())
        peer.send(frame.MESSAGE, 1, ProbeRequest())
        peer.send(frame.END, 1)
        peer.send(kind, 1)
        peer.last_words()
    assert server.refused == {"protocol": 1}


def test_frames_of_a_call_that_is_over_are_dropped(server: Running) -> None:
    with connected(server) as peer:
        echo(peer, 1)
        for kind in (frame.MESSAGE, frame.END, frame.CANCEL, frame.WINDOW):
            peer.send(kind, 1)
            peer.send(kind, 12345)
        echo(peer, 2)
    assert server.refused == {}


def test_a_window_for_a_plain_call_ends_nothing_but_its_connection(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(delay_ms=300), method=ECHO)
        peer.send(frame.WINDOW, 1, value=2**32 - 1)
        list(peer.answers()) if server.kind != "threads" else peer.receive()
    assert server.refused == ({} if server.kind == "threads" else {"protocol": 1})


# ---------------------------------------------------------------------------------------------------- stalls


@pytest.mark.parametrize("sent", [1, 31, 32, 40])
def test_a_peer_that_stops_within_a_frame_is_cut_off(server: Running, sent: int) -> None:
    with connected(server) as peer:
        peer.sock.sendall((head(frame.CALL, 100) + bytes(100))[:sent])
        peer.last_words()
    assert server.refused == {"stalled": 1}


def test_a_peer_that_stops_within_its_payload_is_cut_off(server: Running) -> None:
    with connected(server) as peer:
        peer.sock.sendall(frame.encode(frame.CALL, 1, b"", 1 << 20, PUSH) + bytes(1000))
        peer.last_words()
    assert server.refused == {"stalled": 1}


def test_a_peer_that_is_silent_between_frames_is_not(server: Running) -> None:
    with connected(server) as peer:
        echo(peer, 1)
        threading.Event().wait(2 * STALL_S)  # the silence itself
        echo(peer, 2)
    assert server.refused == {}


def test_a_peer_that_never_says_hello_is_cut_off(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blockyard.proto.lane.thread_server.HELLO_TIMEOUT_S", STALL_S)
    with connected(server, hello=False) as peer:
        peer.last_words()
    assert server.refused == {"handshake": 1}


def test_a_peer_that_takes_no_answers_is_cut_off_and_costs_little(server: Running) -> None:
    """It asks for gigabytes and reads none: what waits for it is bounded, and its connection ends."""
    before = resident_bytes()
    with connected(server, limits=Limits(stream_window=2**32 - 1)) as peer:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.send(frame.CALL, 1, PullRequest(total_bytes=1 << 40, piece_bytes=1 << 20), method=PULL)
        wait_until(lambda: server.open_connections == 1, "it is cut off")
        assert resident_bytes() - before < 200 << 20
    assert server.refused == {"stalled": 1}


def test_a_peer_that_asks_and_asks_and_reads_nothing_is_held_up(server: Running) -> None:
    request = ProbeRequest(body=bytes(90_000))
    with connected(server) as peer:
        peer.sock.settimeout(STALL_S / 3)
        before, sent = resident_bytes(), 0
        try:
            for call in range(1, 100_000):
                peer.send(frame.CALL, call, request, method=ECHO)
                sent += 90_000
        except (TimeoutError, ConnectionError):
            pass  # the server reads no more, which is the point
        assert sent < 64 << 20
        assert resident_bytes() - before < 100 << 20


# ---------------------------------------------------------------------------------------------------- peers that go


def test_a_peer_that_dies_within_a_frame_leaves_nothing_behind(server: Running) -> None:
    for sent in (0, 1, 20, 32, 50):
        with connected(server) as peer:
            peer.sock.sendall((head(frame.CALL, 100) + bytes(100))[:sent])


def test_a_peer_that_dies_within_its_payload_ends_the_servicers_call(server: Running) -> None:
    with connected(server) as peer:
        peer.sock.sendall(frame.encode(frame.CALL, 1, b"", 1 << 20, PUSH) + bytes(1000))
    wait_until(lambda: server.open_connections == 1, "the connection has ended")


def test_a_peer_that_dies_while_it_is_answered_leaves_nothing_behind(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, PullRequest(total_bytes=1 << 40, piece_bytes=1 << 20), method=PULL)
        peer.sock.recv(100_000)
    wait_until(lambda: server.open_connections == 1, "the connection has ended")


def test_a_peer_that_goes_ends_its_calls(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(count=1_000_000, delay_ms=1), method=COUNT)
        assert server.servicer.watch.begun.wait(10)
    assert server.servicer.watch.over.wait(10)


def test_a_peer_that_says_goaway_is_answered_all_the_same(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.GOAWAY, 0)
        echo(peer)
    assert server.refused == {}


def test_a_ping_is_answered_between_calls_and_within_a_stream(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.PING, 0, value=41)
        pong = peer.receive()
        assert pong is not None
        assert (pong.kind, pong.value) == (frame.PONG, 41)
        peer.send(frame.CALL, 1, ProbeRequest(count=1_000_000, delay_ms=1), method=COUNT)
        peer.send(frame.PING, 0, value=42)
        assert 42 in (item.value for item in peer.answers() if item.kind == frame.PONG)


def test_more_calls_than_allowed_are_turned_away_and_the_others_answered(server: Running) -> None:
    count = 3 * LIMITS.max_calls
    with connected(server) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(count=1_000_000, delay_ms=20), method=COUNT)
        for call in range(2, count):
            peer.send(frame.CALL, call, ProbeRequest(body=b"x", delay_ms=20), method=ECHO)
        refused: set[int] = set()
        while len(refused) < count - 2 - LIMITS.max_calls:
            item = peer.receive()
            assert item is not None
            if item.kind == frame.ERROR:
                refused.add(item.call)
        peer.send(frame.CANCEL, 1)


def test_a_deadline_ends_a_call_even_if_its_caller_forgets_it(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(count=1_000_000, delay_ms=1), method=COUNT, value=100)
        while (item := peer.receive()) is not None and item.kind == frame.MESSAGE:
            peer.send(frame.WINDOW, 1, value=1)
        assert item is not None
        assert item.kind == frame.ERROR
    assert server.servicer.watch.over.wait(10)


def test_a_deadline_ends_a_call_whose_requests_do_not_come(server: Running) -> None:
    with connected(server) as peer:
        peer.send(frame.CALL, 1, method=SUM, value=100)
        answer = peer.receive()
        assert answer is not None
        assert answer.kind == frame.ERROR


def test_a_hundred_thousand_random_bytes_do_no_harm(server: Running) -> None:
    chance = random.Random(11)
    for _ in range(30):
        with connected(server, hello=bool(chance.getrandbits(1))) as peer:
            try:
                peer.sock.sendall(bytes(chance.getrandbits(8) for _ in range(chance.randrange(3000))))
                peer.send(frame.CALL, 1, ProbeRequest(), method=ECHO)
            except ConnectionError:
                pass  # refused already
    assert sum(server.refused.values()) <= 30


def test_frames_with_random_fields_do_no_harm(server: Running) -> None:
    chance = random.Random(12)
    for _ in range(30):
        with connected(server) as peer:
            try:
                for _ in range(20):
                    message = chance.choice([b"", ProbeRequest(body=b"x", count=3).SerializeToString(), b"\xff"])
                    kind = chance.choice([2, 2, 2, 3, 4, 7, 8, 9, 10, 11])
                    method = chance.choice([ECHO, COUNT, SUM, CHAT, PULL, PUSH, 5])
                    payload = b"p" * 10 if kind in (2, 3) and chance.getrandbits(2) == 0 else b""
                    peer.send(kind, chance.randrange(1, 6), message, payload, method, chance.randrange(3))
            except ConnectionError:
                pass  # refused already


def test_a_server_stops_while_peers_misbehave(server: Running) -> None:
    with connected(server) as peer, connected(server, hello=False), connected(server) as third:
        peer.sock.sendall(head(frame.CALL, 100)[:10])
        third.send(frame.CALL, 1, ProbeRequest(count=1_000_000), method=COUNT)
        with Channel(server.address) as channel:
            stub = stub_of(channel)
            assert isinstance(stub.Echo(ProbeRequest()), ProbeReply)
            assert stub.Push(PushRequest(), payload=b"x").received_bytes == 1
