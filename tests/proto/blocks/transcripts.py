"""Plays a transcript: lines that begin with `>` are events, with `<` what the core wants done; `#` and blanks stay.

    > chain 1 2 3          > open 0.0        > offer 0.0 MIB      > opened 0.0 0     > heard 0.0 ACK [FAILED…]
    > seal 0.0             > sealed 0.0 1 2  > lost 0.0           > tick 9.0         > release 1 MIB     > abort

Bytes are counted in MiB.
"""

from blockyard.proto.blocks.chain import Abort, Actions, Append, ChainCore, Open, Patience, Seal

MIB = 1 << 20


def run_transcript(text: str) -> str:
    """Return the transcript with the core's answers in place of those in `text`."""
    lines: list[str] = []
    core = ChainCore((), holders_before=0, write_min=1, patience=Patience(stall_s=1.0, hop_s=0.75))
    for line in text.splitlines():
        if line.startswith("<"):
            continue
        lines.append(line)
        if line.startswith("> chain"):
            chain = [int(word) for word in line.split()[2:]]
            core = ChainCore(chain, holders_before=0, write_min=2, patience=Patience(stall_s=1.0, hop_s=0.75))
        elif line.startswith(">"):
            lines += [f"< {_show(action)}" for action in _play(core, *line.split()[1:])]
            lines.append(
                f"< = {core.state.name.lower()}, {core.acknowledged / MIB:g} MiB acknowledged, chain {core.chain}"
                + (f", failed {core.failed}" if core.failed else "")
                + (", waits" if core.must_wait else "")
                + (", below write_min" if core.is_below_minimum else "")
            )
    return "\n".join(lines) + "\n"


def _play(core: ChainCore, word: str, *rest: str) -> Actions:
    numbers = [float(each) for each in rest]
    match word, numbers:
        case "open", [now]:
            return core.open(now)
        case "join", [now]:
            return core.join(now)
        case "offer", [now, mib]:
            return core.offer(now, int(mib * MIB))
        case "opened", [now, mib]:
            return core.opened(now, int(mib * MIB))
        case "heard", [now, mib, *failed]:
            return core.heard(now, int(mib * MIB), [int(each) for each in failed])
        case "seal", [now, mib]:
            return core.seal(now, int(mib * MIB), 0xC0FFEE)
        case "sealed", [now, *nodes]:
            return core.sealed(now, [int(each) for each in nodes])
        case "lost", [now]:
            return core.lost(now)
        case "tick", [now]:
            return core.tick(now)
        case "release", [mib]:
            core.release(int(mib * MIB))
            return ()
        case "abort", []:
            return core.abort()
    raise AssertionError(f"no event: {word} {rest}")


def _show(action: Open | Append | Seal | Abort) -> str:
    match action:
        case Open(chain, resume):
            return f"{'resume' if resume else 'open'} at {chain[0]}, behind it {list(chain[1:])}"
        case Append(start, end):
            return f"send {start / MIB:g} to {end / MIB:g} MiB"
        case Seal(length, checksum):
            return f"seal {length / MIB:g} MiB, CRC32C {checksum:#x}"
        case Abort():
            return "abort"
