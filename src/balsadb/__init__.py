"""BalsaDB: a vector database whose replicas are the same, to the byte.

    client = balsadb.Client("http://127.0.0.1:6333")   # a cluster
    client = balsadb.open("films.balsa")                # the same engine in this process
    index = balsadb.Index(dim=128, metric="Cosine")     # only the index

The names below load on first use, so that importing one part never costs the others' imports.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from balsadb.types import VERSION

if TYPE_CHECKING:
    from balsadb.client import AsyncClient as AsyncClient
    from balsadb.client import Client as Client
    from balsadb.client import open_path as open  # noqa: A004
    from balsadb.embedded.index import Index as Index
    from balsadb.errors import BalsaError as BalsaError

__version__ = VERSION

_HOMES = {
    "AsyncClient": ("balsadb.client", "AsyncClient"),
    "BalsaError": ("balsadb.errors", "BalsaError"),
    "Client": ("balsadb.client", "Client"),
    "Index": ("balsadb.embedded.index", "Index"),
    "open": ("balsadb.client", "open_path"),
}
"""Public name -> the module and the attribute it stands for."""

__all__ = ["AsyncClient", "BalsaError", "Client", "Index", "open"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'balsadb' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
