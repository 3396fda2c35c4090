"""Flags of open(2) as Linux numbers them on x86-64; the contract uses these numbers on every machine."""

from typing import Final

O_RDONLY: Final = 0o0
O_WRONLY: Final = 0o1
O_RDWR: Final = 0o2
O_ACCMODE: Final = 0o3
O_EXCL: Final = 0o200
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_NOATIME: Final = 0o1000000
O_TMPFILE: Final = 0o20200000
