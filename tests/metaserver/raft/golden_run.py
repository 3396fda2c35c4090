"""Runs a golden scenario: commands in, a transcript out.

A scenario is a text file. Lines that begin with `#` tell the reader what to see; lines that begin with `>` are
commands; what stands below a command is what the group did on it. Heartbeats are shown only when they carry a read
round, or after `> heartbeats`.
"""

from __future__ import annotations

from collections.abc import Callable

from blockyard.metaserver.raft import Busy, ChangeRefused, MemberId, MembershipChange, Message, NotLeader, Role
from blockyard.metaserver.raft.membership import ChangeKind

from tests.metaserver.raft.harness import Group, describe, disk_with

Command = Callable[["Scenario", list[str]], None]


class GoldenGroup(Group):
    """A group that tells what it delivers."""

    shows_heartbeats = False

    def trace_message(self, message: Message) -> None:
        idle = type(message).__name__ in ("Heartbeat", "HeartbeatReply") and not getattr(message, "read_round", 0)
        if self.shows_heartbeats or not idle:
            self.trace(describe(message))


class Scenario:
    """One run of one file."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.group = GoldenGroup(trace=self.lines.append)

    def run(self, text: str) -> str:
        """Return the file as it would be if it were right."""
        for line in text.splitlines():
            if line.startswith("#") or not line:
                if not line and (not self.lines or self.lines[-1] == ""):
                    continue
                self.lines.append(line)
            elif line.startswith("> "):
                self.lines.append(line)
                name, *words = line[2:].split()
                try:
                    COMMANDS[name](self, words)
                except (Busy, ChangeRefused, NotLeader) as refusal:
                    self.lines.append(f"refused: {refusal}")
        return "\n".join(self.lines).rstrip() + "\n"

    def make_group(self, words: list[str]) -> None:
        """group <data,...> [<witness>]"""
        data = [int(word) for word in words[0].split(",")]
        self.group = GoldenGroup(data, int(words[1]) if words[1:] else None, trace=self.lines.append)

    def disk(self, words: list[str]) -> None:
        """disk <id> <term of entry 2> <term of entry 3> ...: what is on the disk of a member before it starts"""
        id = int(words[0])
        self.group.members[id].disk = disk_with(self.group.membership, [int(word) for word in words[1:]])
        self.group.restart(id)

    def until(self, words: list[str]) -> None:
        """until <id> leads"""
        self.group.until(lambda: self.group.core(int(words[0])).role is Role.LEADER)

    def drop(self, words: list[str]) -> None:
        """drop <kind> [to <id>], or drop nothing"""
        kind, to = words[0], int(words[2]) if words[2:] else 0
        self.group.drop = lambda m: type(m).__name__ == kind and to in (0, m.to)

    def change(self, words: list[str]) -> None:
        """change <leader> <kind> <member>"""
        change = MembershipChange(ChangeKind(" ".join(words[1:-1])), MemberId(int(words[-1])))
        self.group.core(int(words[0])).propose_membership(change)
        self.group.settle()

    def read(self, words: list[str]) -> None:
        """read <id> <context> ..."""
        for context in words[1:]:
            self.group.core(int(words[0])).read_index(int(context))
        self.group.settle()
        self.answers(words)

    def answers(self, words: list[str]) -> None:
        """answers <id>: which reads are confirmed, which refused"""
        member = self.group.members[int(words[0])]
        for read in member.reads:
            self.lines.append(f"{words[0]} may serve read {read.context} once {read.index} is applied")
        self.lines += [f"{words[0]} refuses read {context}" for context in member.refused]
        member.reads, member.refused = [], []

    def transfer(self, words: list[str]) -> None:
        """transfer <from> <to>"""
        self.group.core(int(words[0])).transfer_leadership(MemberId(int(words[1])))
        self.group.settle()

    def forget(self, words: list[str]) -> None:
        """forget <id>: its disk is lost and it comes back under its old id, which the rules forbid"""
        id = int(words[0])
        self.group.crash(id)
        self.group.members[id].disk = disk_with(self.group.membership, [])
        self.group.restart(id)

    def joins(self, words: list[str]) -> None:
        """joins <id> [witness]: a member starts that the group is going to add"""
        self.group.add(int(words[0]), witness="witness" in words)

    def hold(self, words: list[str]) -> None:
        """hold <id>: its writes do not return"""
        self.group.members[int(words[0])].holds_writes = True

    def heartbeats(self, words: list[str]) -> None:
        self.group.shows_heartbeats = True

    def tick(self, words: list[str]) -> None:
        """tick <count> [<id> ...]: time passes for all, or only these"""
        self.group.tick(int(words[0]), only=[int(word) for word in words[1:]])

    def propose(self, words: list[str]) -> None:
        """propose <id> <command> ..."""
        self.group.propose(int(words[0]), *[word.encode() for word in words[1:]])

    def state(self, words: list[str]) -> None:
        """state: every member in a line; what is not told is as one would expect"""
        for id, member in self.group.members.items():
            core, log = member.core, member.core.log
            line = f"{id} {core.role.value} t{core.term} log {log.base.index}/t{log.base.term}"
            line += f"..{log.last_index}/t{log.last_term} commit {core.commit}"
            commands = " ".join(command.decode() for command in member.disk.commands)
            line += "" if core.is_witness else f" state [{commands}]"
            if core.role is Role.LEADER:
                line += " sees " + " ".join(f"{to}:{p.state.value}@{p.match}" for to, p in core.progress.items())
            self.lines.append(line if member.alive else f"{id} down")


def _one(method: str) -> Command:
    return lambda scenario, words: getattr(scenario.group, method)(*map(int, words))


def _settled(method: str) -> Command:
    def run(scenario: Scenario, words: list[str]) -> None:
        getattr(scenario.group, method)(*map(int, words))
        scenario.group.settle()

    return run


COMMANDS: dict[str, Command] = {
    "group": Scenario.make_group,
    "disk": Scenario.disk,
    "tick": Scenario.tick,
    "until": Scenario.until,
    "propose": Scenario.propose,
    "drop": Scenario.drop,
    "change": Scenario.change,
    "read": Scenario.read,
    "answers": Scenario.answers,
    "transfer": Scenario.transfer,
    "forget": Scenario.forget,
    "hold": Scenario.hold,
    "heartbeats": Scenario.heartbeats,
    "state": Scenario.state,
    "elect": _one("elect"),
    "crash": _one("crash"),
    "restart": _settled("restart"),
    "isolate": _one("isolate"),
    "cut": _one("cut_link"),
    "heal": _one("heal"),
    "release": _one("release"),
    "compact": _one("compact"),
    "joins": Scenario.joins,
}
