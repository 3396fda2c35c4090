"""The Metadata service: changes go through the log, reads wait for a read index."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from blockyard.metaserver.member.applier import Applier
from blockyard.metaserver.member.driver import Driver
from blockyard.metaserver.member.group_machine import internal
from blockyard.metaserver.member.leadership import Leadership
from blockyard.metaserver.member.watchers import OperationTail, Watchers
from blockyard.metaserver.namespace.operations import CHANGES, READS
from blockyard.metaserver.state.commands import METADATA, method_id
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.call import CallContext, Deferred
from blockyard.proto.internal_pb2 import CancelLockRequest

_BATCH = method_id(f"{METADATA}Batch")
_SET_LOCK = method_id(f"{METADATA}SetLock")
_CANCEL_LOCK = internal("CancelLock")


class MetadataService:
    """Every method of the contract's `Metadata`; most are made from the state machine's own table."""

    def __init__(
        self, driver: Driver, applier: Applier, leadership: Leadership, watchers: Watchers, tail: OperationTail
    ):
        self._driver = driver
        self._applier = applier
        self._leadership = leadership
        self._watchers = watchers
        self._tail = tail
        for name in pb.DESCRIPTOR.services_by_name["Metadata"].methods_by_name:
            number = method_id(METADATA + name)
            if number in CHANGES and number != _SET_LOCK:
                setattr(self, name, self._change(number))
            elif number in READS:
                setattr(self, name, self._read(number))

    def _change(self, number: int) -> Callable[[Any, CallContext], Deferred]:
        driver, validate, leadership = self._driver, self._validate, self._leadership

        def change(request: Any, context: CallContext) -> Deferred:
            leadership.check()
            validate(number, request)
            return driver.propose(number, request)

        return change

    def _read(self, number: int) -> Callable[[Any, CallContext], Deferred]:
        driver, applier = self._driver, self._applier

        def read(request: Any, context: CallContext) -> Deferred:
            return driver.read(lambda: applier.machine.read(number, request))

        return read

    def _validate(self, number: int, request: Any) -> None:
        self._applier.machine.validate(number, request)
        self._leadership.check_room(number)

    # ------------------------------------------------------------------------------------------ what is special

    def SetLock(self, request: pb.SetLockRequest, context: CallContext) -> Deferred:
        """Take, change or give back a lock; a wait ends with the call."""
        self._leadership.check()
        self._validate(_SET_LOCK, request)
        deferred = self._driver.propose(_SET_LOCK, request)
        if request.wait:
            context.add_done_callback(lambda: self._call_over(request, deferred))
        return deferred

    def _call_over(self, request: pb.SetLockRequest, deferred: Deferred) -> None:
        number = request.request
        if deferred.settled or not self._applier.cancel_wait(number.session, number.sequence, deferred):
            return
        self._driver.propose(_CANCEL_LOCK, CancelLockRequest(session=number.session, sequence=number.sequence))

    def Batch(self, request: pb.BatchRequest, context: CallContext) -> Deferred:
        """Carry out several operations: through the log when it has a request id, else as one read."""
        if not request.HasField("request"):
            return self._driver.read(lambda: self._applier.machine.read_batch(request))
        self._leadership.check()
        self._validate(_BATCH, request)
        return self._driver.propose(_BATCH, request)

    def StatFilesystem(self, request: pb.StatFilesystemRequest, context: CallContext) -> Deferred:
        """Return the file system's totals."""
        return self._driver.read(self._leadership.filesystem)

    def OpenSession(self, request: pb.OpenSessionRequest, context: CallContext) -> Deferred:
        """Register a client."""
        self._leadership.check()
        number = method_id(f"{METADATA}OpenSession")
        self._validate(number, request)
        return self._driver.propose(number, request)

    def KeepSession(self, request: pb.KeepSessionRequest, context: CallContext) -> Deferred:
        """Keep a session alive; confirmed by the group, so that a deposed leader keeps nobody."""
        self._leadership.check()
        return self._driver.read(lambda: self._leadership.keep(request.session))

    def CloseSession(self, request: pb.CloseSessionRequest, context: CallContext) -> Deferred:
        """End a session."""
        self._leadership.check()
        return self._driver.propose(method_id(f"{METADATA}CloseSession"), request)

    async def Watch(self, request: pb.WatchRequest, context: CallContext) -> AsyncIterator[pb.WatchEvent]:
        """Tell a client what others change from now on, until it has heard enough.

        A follower first comes as far as everything acknowledged before the call: what is older is no news.
        """
        await self._driver.read(lambda: None)
        async for event in self._watchers.events(request):
            yield event

    async def OperationLog(
        self, request: pb.OperationLogRequest, context: CallContext
    ) -> AsyncIterator[pb.OperationRecord]:
        """Send rows of the operation log, and with `follow` new ones as they come."""
        async for record in self._tail.records(request):
            yield record
