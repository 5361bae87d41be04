"""The demo's data: 36,273 films of `examples/films/films.npz`."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from balsadb.errors import InvalidInput

COLLECTION = "films"
FILE = Path(__file__).resolve().parents[3] / "examples" / "films" / "films.npz"
"""In a checkout. Elsewhere, `BALSADB_FILMS` says where the file is."""


_PAYLOADS = msgspec.json.Decoder(dict[str, Any])


class Films(NamedTuple):
    """`vectors` float32 (n, 128) of unit length; `payloads[i]` has title, year, genres, cast of
    row i, which is also the point's id."""

    vectors: NDArray[np.float32]
    payloads: list[dict[str, Any]]

    def find(self, title: str, year: int) -> int:
        """The row of a film; `InvalidInput` if there is none."""
        for row, payload in enumerate(self.payloads):
            if payload["title"] == title and payload["year"] == year:
                return row
        raise InvalidInput("title", f"there is no film {title!r} of {year}")


def load(file: Path | None = None) -> Films:
    """Read the films; `InvalidInput` if the file is not there."""
    file = file or Path(os.environ.get("BALSADB_FILMS", FILE))
    if not file.exists():
        raise InvalidInput(
            "BALSADB_FILMS", f"{file} does not exist; it is examples/films/films.npz"
        )
    with np.load(file, allow_pickle=False) as arrays:
        vectors: NDArray[np.float32] = arrays["vectors"].astype(np.float32)
        lines: bytes = arrays["payload"].tobytes()
    return Films(vectors, _PAYLOADS.decode_lines(lines))
