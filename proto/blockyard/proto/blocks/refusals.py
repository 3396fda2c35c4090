"""Which errors are about the request, and which about the node that answered."""

from typing import Final

from blockyard.proto import errors

REFUSALS: Final = (
    errors.StaleEpoch,
    errors.Exists,
    errors.InvalidArgument,
    errors.MalformedRequest,
    errors.TooLarge,
    errors.NotPermitted,
    errors.PermissionDenied,
    errors.Unauthenticated,
    errors.SessionExpired,
    errors.LeaseExpired,
    errors.ForeignCluster,
    errors.NotSupported,
    errors.UnknownMethod,
    errors.VersionMismatch,
)
"""Another node would say the same. Every other error is taken for the node's own: it is left out."""


def is_refusal(error: errors.BlockyardError) -> bool:
    """Return whether another node would refuse the same request for the same reason."""
    return isinstance(error, REFUSALS) and error.kind in _KINDS


_KINDS: Final = frozenset(kind.__name__ for kind in REFUSALS)
