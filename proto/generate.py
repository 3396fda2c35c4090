"""Regenerates the contract's Python code from its `.proto` files.

    python proto/generate.py            # in place
    python proto/generate.py DIRECTORY  # elsewhere, for comparison (the tests do this)

What comes out is committed, so that installing Blockyard needs no compiler.
"""

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent
PACKAGE = Path("blockyard/proto")


def generate(target: Path) -> list[Path]:
    """Write the generated modules below `target` and return their paths relative to it; raises on a protoc error."""
    sources = sorted(ROOT.glob(f"{PACKAGE}/*.proto"))
    plain = [source for source in sources if "\nservice " not in source.read_text()]
    offering = [source for source in sources if source not in plain]
    _protoc(plain, [f"--python_out={target}", f"--pyi_out={target}"])
    _protoc(offering, [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")])
    return sorted(path.relative_to(target) for path in (target / PACKAGE).glob("*_pb2*.py*"))


def _protoc(sources: list[Path], outputs: list[str]) -> None:
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    arguments = ["protoc", f"-I{ROOT}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    arguments += [f"--plugin=protoc-gen-mypy_grpc={plugin}", *outputs]
    if protoc.main([*arguments, *(str(source.relative_to(ROOT)) for source in sources)]) != 0:
        raise SystemExit("protoc refused the contract; its messages are above")


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT):
        print(path)
