"""Starts a server in a process of its own for a bench, and ends it."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue


@contextmanager
def serving(serve: "Callable[[Queue[str]], None]") -> Iterator[str]:
    """Run `serve(queue)` in a fresh process; it puts its address into the queue and serves until it is ended."""
    context = multiprocessing.get_context("spawn")
    queue: Queue[str] = context.Queue()
    process = context.Process(target=serve, args=(queue,), daemon=True)
    process.start()
    try:
        yield queue.get(timeout=30)
    finally:
        process.kill()
        process.join()
