"""Sessions: who is registered, what was answered to whom, and who has been silent for too long.

Exactly once: an answer is kept until the session says that it will not ask again (`answered_below`), and a retry gets
the same bytes. Refusals that the client's library answers with another try (`Overloaded`, an expired lease) had no
effect and are not kept.

All sessions stay in memory. Time is the session clock, which advances only while a leader serves: nobody expires for
the time in which nobody could have been heard. Invariants: an answer kept has a sequence of at least
`answered_below`; a pack of answers goes when all of its sequences are below.
"""

from heapq import heappop, heappush
from struct import Struct
from typing import Final

from blockyard.metaserver.namespace import inodes, locks
from blockyard.metaserver.namespace.state import NEXT_SESSION, State
from blockyard.metaserver.state import keys
from blockyard.proto.common_pb2 import Empty, RequestId
from blockyard.proto.errors import AnswerForgotten, InvalidArgument, Overloaded, SessionExpired
from blockyard.proto.internal_pb2 import (
    ExpireSessionsReply,
    ExpireSessionsRequest,
    KeepSessionsRequest,
    SessionRecord,
)
from blockyard.proto.metadata_pb2 import CloseSessionRequest, OpenSessionReply, OpenSessionRequest

TERM_MS_DEFAULT: Final = 30_000
TERM_MS_MIN: Final = 5_000
TERM_MS_MAX: Final = 600_000
NONCE_MS: Final = 60_000
WINDOW: Final = 4_096
ANSWER_BYTES_MAX: Final = 32 << 20
SESSIONS_MAX: Final = 100_000

_ANSWER: Final = Struct("<QIBI")


class Answer:
    """An answer kept: the method it was for, and the serialized reply, or ErrorDetail when it was a refusal."""

    __slots__ = ("method", "payload", "refused")

    def __init__(self, method: int, refused: bool, payload: bytes) -> None:
        self.method = method
        self.refused = refused
        self.payload = payload


class Session:
    """One client's registration."""

    __slots__ = (
        "answer_bytes", "answered_below", "answers", "client", "fresh", "nonce", "number", "opened_ms", "opened_ns",
        "packs", "seen_ms", "term_ms",
    )  # fmt: skip

    def __init__(self, number: int, record: SessionRecord) -> None:
        self.number = number
        self.client = record.client
        self.nonce = record.nonce
        self.term_ms = record.term_ms
        self.opened_ns = record.opened_ns
        self.opened_ms = record.opened_ms
        self.seen_ms = record.seen_ms
        self.answered_below = record.answered_below
        self.answers: dict[int, Answer] = {}
        self.answer_bytes = 0
        self.fresh: dict[int, Answer] = {}  # answers of the entry under way
        self.packs: list[tuple[int, int]] = []  # heap of (last, first) sequence of each pack's row

    def row(self) -> bytes:
        """Return the session as a row."""
        return SessionRecord(
            client=self.client,
            nonce=self.nonce,
            term_ms=self.term_ms,
            opened_ns=self.opened_ns,
            opened_ms=self.opened_ms,
            seen_ms=self.seen_ms,
            answered_below=self.answered_below,
        ).SerializeToString()

    def forget_below(self, sequence: int) -> None:
        """Drop the answers below a sequence."""
        answers, before = self.answers, self.answered_below
        self.answered_below = sequence
        if sequence == before + 1:  # the commonest step
            answer = answers.pop(before, None)
            if answer is not None:
                self.answer_bytes -= len(answer.payload)
            return
        if sequence - before <= len(answers):
            gone = [answers.pop(old, None) for old in range(before, sequence)]
        else:
            gone = [answers.pop(old) for old in [old for old in answers if old < sequence]]
        self.answer_bytes -= sum(len(answer.payload) for answer in gone if answer is not None)


class Sessions:
    """Every session of the group."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.known: dict[int, Session] = {}
        self.by_nonce: dict[int, Session] = {}
        self.touched: dict[int, Session] = {}  # in the entry under way
        self._load()

    # ------------------------------------------------------------------------------------------------- exactly once

    def admit(self, request: RequestId, method: int) -> tuple[Session, Answer | None]:
        """Let a request in: return its session, and the answer it had before or None when it is to be carried out.

        Raises SessionExpired, AnswerForgotten, Overloaded, and InvalidArgument on a sequence used for two methods.
        """
        number, sequence = request.session, request.sequence
        session = self.known.get(number)
        if session is None:
            raise SessionExpired(f"session {number} is over, or never was")
        session.seen_ms = self.state.clock_ms
        self.touched[number] = session
        if sequence < session.answered_below:
            raise AnswerForgotten(f"session {number} said that it had the answers below {session.answered_below}")
        answer = session.answers.get(sequence)
        if answer is not None:
            if answer.method != method:
                raise InvalidArgument(f"session {number} used sequence {sequence} for another method before")
            return session, answer
        below = request.answered_below
        if below > session.answered_below:
            if below > sequence:
                raise InvalidArgument(f"request {sequence} of session {number} says it is answered already")
            session.forget_below(below)
        if len(session.answers) >= WINDOW or session.answer_bytes > ANSWER_BYTES_MAX:
            raise Overloaded(f"session {number} has {len(session.answers)} answers that it did not acknowledge")
        return session, None

    def keep(self, session: Session, sequence: int, answer: Answer) -> None:
        """Keep an answer for retries, if the session may still ask."""
        if sequence >= session.answered_below:
            session.answers[sequence] = session.fresh[sequence] = answer
            session.answer_bytes += len(answer.payload)
            self.touched[session.number] = session

    def end_entry(self) -> None:
        """Write the rows of the sessions that were heard in this entry."""
        tx = self.state.tx
        for number, session in self.touched.items():
            fresh = session.fresh
            if fresh:
                first, last = min(fresh), max(fresh)
                tx.put(keys.answers(number, first), _encode(fresh))
                heappush(session.packs, (last, first))
                session.fresh = {}
            while session.packs and session.packs[0][0] < session.answered_below:
                tx.delete(keys.answers(number, heappop(session.packs)[1]))
            tx.put(keys.session(number), session.row())
        self.touched.clear()
        tx.commit()

    # ------------------------------------------------------------------------------------------------- commands

    def open(self, request: OpenSessionRequest) -> OpenSessionReply:
        """Register a client; the same nonce within a minute gives the same session."""
        clock = self.state.clock_ms
        session = self.by_nonce.get(request.nonce)
        if session is None or clock - session.opened_ms > NONCE_MS:
            if len(self.known) >= SESSIONS_MAX:
                raise Overloaded(f"there are {SESSIONS_MAX} sessions already")
            number = self.state.counters.add(NEXT_SESSION)
            term = min(max(request.term_ms or TERM_MS_DEFAULT, TERM_MS_MIN), TERM_MS_MAX)
            record = SessionRecord(
                client=request.client,
                nonce=request.nonce,
                term_ms=term,
                opened_ns=self.state.now,
                opened_ms=clock,
                answered_below=1,
            )
            session = self._index(Session(number, record))
        session.seen_ms = clock
        self.touched[session.number] = session
        return OpenSessionReply(session=session.number, term_ms=session.term_ms, window=WINDOW)

    def close(self, request: CloseSessionRequest) -> Empty:
        """End a session; one that is over already is no error."""
        self._end(request.session)
        return Empty()

    def keep_alive(self, request: KeepSessionsRequest) -> Empty:
        """Note that sessions were heard."""
        clock = self.state.clock_ms
        for number in request.sessions:
            session = self.known.get(number)
            if session is not None:
                session.seen_ms = clock
                self.touched[number] = session
        return Empty()

    def expire(self, request: ExpireSessionsRequest) -> ExpireSessionsReply:
        """End every session that was silent for longer than its term."""
        over = self.overdue(self.state.clock_ms)
        for number in over:
            self._end(number)
        return ExpireSessionsReply(sessions=over)

    def overdue(self, clock_ms: int) -> list[int]:
        """Return the sessions that `expire` would end at a session clock, rising."""
        return sorted(number for number, session in self.known.items() if clock_ms > session.seen_ms + session.term_ms)

    # ------------------------------------------------------------------------------------------------- within

    def _end(self, number: int) -> None:
        session = self.known.pop(number, None)
        if session is None:
            return
        self.touched.pop(number, None)
        if self.by_nonce.get(session.nonce) is session:
            del self.by_nonce[session.nonce]
        state = self.state
        locks.end_session(state, number)
        for handle in state.open_files.of_session(number):
            inodes.close(state, handle)
        state.leases.ended(number)
        for _, first in session.packs:
            state.tx.delete(keys.answers(number, first))
        state.tx.delete(keys.session(number))

    def _index(self, session: Session) -> Session:
        self.known[session.number] = session
        if session.nonce:
            self.by_nonce[session.nonce] = session
        return session

    def _load(self) -> None:
        tx = self.state.tx
        for key, row in tx.scan_prefix(keys.SESSION):
            self._index(Session(keys.parse_one(key), SessionRecord.FromString(row)))
        for key, row in tx.scan_prefix(keys.ANSWER):
            number, first = keys.parse_two(key)
            session = self.known[number]
            answers = _decode(row)
            heappush(session.packs, (max(answers), first))
            for sequence, answer in answers.items():
                if sequence >= session.answered_below:
                    session.answers[sequence] = answer
                    session.answer_bytes += len(answer.payload)


def _encode(answers: dict[int, Answer]) -> bytes:
    parts: list[bytes] = []
    for sequence, answer in answers.items():
        payload = answer.payload
        parts.append(_ANSWER.pack(sequence, answer.method, answer.refused, len(payload)))
        parts.append(payload)
    return b"".join(parts)


def _decode(row: bytes) -> dict[int, Answer]:
    answers: dict[int, Answer] = {}
    place = 0
    while place < len(row):
        sequence, method, refused, length = _ANSWER.unpack_from(row, place)
        place += _ANSWER.size
        answers[sequence] = Answer(method, bool(refused), row[place : place + length])
        place += length
    return answers
