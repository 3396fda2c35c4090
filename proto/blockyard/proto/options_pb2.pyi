from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Payload(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_NONE: _ClassVar[Payload]
    PAYLOAD_REQUEST: _ClassVar[Payload]
    PAYLOAD_RESPONSE: _ClassVar[Payload]
    PAYLOAD_BOTH: _ClassVar[Payload]

class Effect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EFFECT_READ: _ClassVar[Effect]
    EFFECT_CHANGE: _ClassVar[Effect]
    EFFECT_LOCAL: _ClassVar[Effect]
PAYLOAD_NONE: Payload
PAYLOAD_REQUEST: Payload
PAYLOAD_RESPONSE: Payload
PAYLOAD_BOTH: Payload
EFFECT_READ: Effect
EFFECT_CHANGE: Effect
EFFECT_LOCAL: Effect
PAYLOAD_FIELD_NUMBER: _ClassVar[int]
payload: _descriptor.FieldDescriptor
EFFECT_FIELD_NUMBER: _ClassVar[int]
effect: _descriptor.FieldDescriptor
