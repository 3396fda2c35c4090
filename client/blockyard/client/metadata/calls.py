"""Calls to the metadata group: every one with a deadline, every change under one request id until it is answered."""

import os
import time
from collections.abc import Iterable
from typing import Any, cast

import grpc
from blockyard.client.metadata.session import Session, SessionKeeper
from blockyard.proto import errors
from blockyard.proto.cluster_pb2_grpc import ClusterStub
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.group import GroupChannel
from blockyard.proto.metadata_pb2_grpc import MetadataStub


class MetadataCalls:
    """One user's access to the metadata group. Any number of threads may use it.

    G2, G5: a change is sent with the same request id until the group has answered it, wherever its leader is by then;
    a failover is a pause. After DeadlineExceeded it may or may not have happened.
    """

    def __init__(self, channel: GroupChannel, caller: Caller, *, deadline_s: float, keeper: SessionKeeper) -> None:
        """`deadline_s`: of one call, all its attempts included."""
        self.caller = caller
        self.deadline_s = deadline_s
        self.keeper = keeper
        self.metadata: Any = MetadataStub(cast(grpc.Channel, channel))
        self.cluster: Any = ClusterStub(cast(grpc.Channel, channel))

    def read(self, method: str, request: Any) -> Any:
        """Ask something."""
        request.caller.CopyFrom(self.caller)
        return getattr(self.metadata, method)(request, timeout=self.deadline_s)

    def change(
        self, method: str, request: Any, session: Session | None = None, *, timeout_s: float | None = None
    ) -> Any:
        """Change something. `session` is the one that holds the handles, locks or blocks that it relies on, if any.

        Raises SessionExpired when that is over. A change that relies on nothing is made in a new session instead, if
        it cannot have happened in the old one.
        """
        request.caller.CopyFrom(self.caller)
        return self._change(getattr(self.metadata, method), request, session, timeout_s)

    def change_cluster(self, method: str, request: Any, session: Session) -> Any:
        """Change something at the Cluster service, on account of `session`."""
        return self._change(getattr(self.cluster, method), request, session, None)

    def session(self) -> Session:
        """Return the current session, opening one when there is none."""
        return self.keeper.get(time.monotonic() + self.deadline_s)

    def _change(self, call: Any, request: Any, needed: Session | None, timeout_s: float | None) -> Any:
        start = time.monotonic()
        deadline = start + (self.deadline_s if timeout_s is None else timeout_s)
        while True:
            session = needed or self.keeper.get(deadline)
            if session.is_over:
                raise session_expired(session)
            try:
                with session.request(deadline) as identity:
                    request.request.CopyFrom(identity)
                    return call(request, timeout=max(0.001, deadline - time.monotonic()))
            except errors.SessionExpired:
                self.keeper.over(session)
                # An attempt that was carried out would have kept the session alive for a whole term after it.
                if needed is not None or time.monotonic() - start > session.term_s / 2:
                    raise


def session_expired(session: Session) -> errors.SessionExpired:
    """Return the error for whoever relied on a session that is over."""
    return errors.SessionExpired(f"session {session.number} is over: its open files, locks and unfinished writes are")


def caller_of_process(groups: Iterable[int] | None = None) -> Caller:
    """Return the user that this process runs as."""
    return Caller(uid=os.geteuid(), gid=os.getegid(), groups=os.getgroups() if groups is None else groups)
