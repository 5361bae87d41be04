"""What a run says on the screen and leaves behind."""

import os
import platform
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import msgspec

from bench.suite import datasets

VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_int8", "asimd", "asimddp", "sve")
SLOW_BLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def say(words: str) -> None:
    """To standard error: standard output is the JSON."""
    print(words, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """The processor, its cores and vector instructions, for every result depends on them."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    known = {key.strip(): value.strip() for key, value in reversed(pairs)}
    flags = set((known.get("flags") or known.get("Features") or "").split())
    return {
        "processor": known.get("model name") or platform.machine(),
        "family": known.get("cpu family", ""),
        "model": known.get("model", ""),
        "cores": os.cpu_count(),
        "vector": [flag for flag in VECTOR_FLAGS if flag in flags],
        "python": platform.python_version(),
    }


def arguments(parser: ArgumentParser) -> Namespace:
    """Parse, with the options that all benchmarks have."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, help="where the JSON goes, as well as to the screen")
    parser.add_argument("--cache", type=Path, default=datasets.CACHE, help="graphs are kept here")
    parser.add_argument("--data", type=Path, default=datasets.DATA, help="folder of films384.npz")
    for name in SLOW_BLAS:
        if name in os.environ:
            say(f"{name} is set: exact answers and training are slower than they need be")
    return parser.parse_args()


def write(result: dict[str, Any], out: Path | None, svg: str = "") -> None:
    """The JSON to the screen; or to a file, and the plot beside it."""
    text = msgspec.json.format(msgspec.json.encode(result), indent=1)
    if out is None:
        print(text.decode())
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(text + b"\n")
    say(f"wrote {out}")
    if svg:
        out.with_suffix(".svg").write_text(svg, encoding="utf-8")
        say(f"wrote {out.with_suffix('.svg')}")
