"""Waits for conditions, each with a deadline."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], what: str, within_s: float = 10.0) -> None:
    """Wait for a condition; fails, naming it, when it does not come."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        assert loop.time() < deadline, f"waited {within_s:g} s in vain: {what}"
        await asyncio.sleep(0.005)
