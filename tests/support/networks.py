"""Network namespaces, one per member, on one bridge: where links can be cut in one direction or both.

Needs root, `ip` and `iptables`. The machine's own namespace is a host on the same bridge, so a test reaches everybody.
"""

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

_numbers = itertools.count()


def missing() -> str | None:
    """Return why this machine cannot make namespaces, None when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian: apt-get install iproute2 iptables): partitions are left unproven"
    probe = f"byprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"this machine makes no network namespaces ({made.stderr.strip()}): partitions are left unproven"
    _run("ip", "netns", "del", probe)
    return None


class Network:
    """Namespaces for members 1 to `size` with the addresses 10.x.y.1 to .size, on a bridge with 10.x.y.254."""

    def __init__(self, size: int) -> None:
        _sweep()
        tag = f"{os.getpid()}{chr(ord('a') + next(_numbers) % 26)}"
        self._bridge = f"byb{tag}"
        self._tag = tag
        self._subnet = f"10.{64 + os.getpid() % 128}.{(os.getpid() // 128 * 7 + ord(tag[-1])) % 250}"
        self._numbers: list[int] = []
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        try:
            _run("ip", "addr", "add", f"{self._subnet}.254/24", "dev", self._bridge)
            _run("ip", "link", "set", self._bridge, "up")
            for number in range(1, size + 1):
                self._join(number)
        except BaseException:
            self.close()
            raise

    def address(self, number: int) -> str:
        """Return a member's address."""
        return f"{self._subnet}.{number}"

    def inside(self, number: int) -> list[str]:
        """Return the command that runs another one in a member's namespace; the process id stays the same."""
        return ["ip", "netns", "exec", self._namespace(number)]

    def cut(self, sender: int, receiver: int) -> None:
        """Lose everything that `sender` sends to `receiver`."""
        self._tables(receiver, "-A", "INPUT", "-s", self.address(sender), "-j", "DROP")

    def cut_both(self, one: int, others: Iterable[int]) -> None:
        """Lose everything between a member and some others, in both directions."""
        for other in others:
            self.cut(one, other)
            self.cut(other, one)

    def reset(self, sender: int, receiver: int) -> None:
        """Answer every segment that `sender` sends to `receiver` with a reset of its connection."""
        self._tables(
            receiver, "-A", "INPUT", "-s", self.address(sender), "-p", "tcp", "-j", "REJECT",
            "--reject-with", "tcp-reset",
        )  # fmt: skip

    def heal(self) -> None:
        """Let everything through again."""
        for number in self._numbers:
            self._tables(number, "-F", "INPUT")

    def close(self) -> None:
        """Remove namespaces and bridge."""
        for number in self._numbers:
            subprocess.run(["ip", "netns", "del", self._namespace(number)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True, check=False)

    def _join(self, number: int) -> None:
        namespace, outer, inner = self._namespace(number), f"by{self._tag}{number}", f"bi{self._tag}{number}"
        _run("ip", "netns", "add", namespace)
        self._numbers.append(number)
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        _run("ip", "link", "set", inner, "netns", namespace)
        _run("ip", "link", "set", outer, "master", self._bridge, "up")
        for command in (
            ["addr", "add", f"{self.address(number)}/24", "dev", inner],
            ["link", "set", inner, "up"],
            ["link", "set", "lo", "up"],
        ):
            _run("ip", "-n", namespace, *command)

    def _namespace(self, number: int) -> str:
        return f"byn{self._tag}{number}"

    def _tables(self, number: int, *arguments: str) -> None:
        _run(*self.inside(number), "iptables", "-w", *arguments)


def _sweep() -> None:
    """Remove the namespaces and bridges of test processes that were killed before they could."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for found in re.finditer(r"^byn((\d+)[a-z])\d\b", listed, re.MULTILINE):
        if not Path(f"/proc/{found[2]}").exists():
            subprocess.run(["ip", "netns", "del", found[0]], capture_output=True, check=False)
            subprocess.run(["ip", "link", "del", f"byb{found[1]}"], capture_output=True, check=False)


def _run(*command: str) -> None:
    done: subprocess.CompletedProcess[str] = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(_quoted(command))}: {done.stderr.strip()}")


def _quoted(command: Sequence[str]) -> list[str]:
    return [repr(part) if " " in part else part for part in command]
