"""All columns of a state machine, by name, in one fixed order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from numpy.typing import DTypeLike

from balsadb.columns.column import Column
from balsadb.columns.frozen import FrozenColumn
from balsadb.columns.meta import DIGEST_BYTES, ColumnMeta
from balsadb.columns.reserve import MakeReserve, Reserve
from balsadb.errors import Corruption


class ColumnSet:
    """Columns by name; every iteration is in order of the names, whatever the order of creation."""

    def __init__(self, reserves: Mapping[str, MakeReserve] | None = None) -> None:
        """`reserves`: how the reserves of some columns are made, by name; the others are memory."""
        self._columns: dict[str, Column] = {}
        self._reserves = dict(reserves or {})

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[Column]:
        return (self._columns[name] for name in self.names())

    def names(self) -> list[str]:
        """Names in ascending order (by code point)."""
        return sorted(self._columns)

    def with_prefix(self, prefix: str) -> Iterator[Column]:
        """The columns whose name starts with `prefix`, in order; safe to remove while iterating."""
        return (self._columns[name] for name in self.names() if name.startswith(prefix))

    def add(self, column: Column) -> None:
        """ValueError if the name is taken."""
        if column.name in self._columns:
            raise ValueError(f"column {column.name!r} exists")
        self._columns[column.name] = column

    def create(
        self, name: str, dtype: DTypeLike, row_shape: tuple[int, ...] = (), *, rows_max: int
    ) -> Column:
        """Make a column and add it. ValueError if the name is taken."""
        if name in self._columns:
            raise ValueError(f"column {name!r} exists")
        make = self._reserves.get(name, Reserve)
        column = Column(name, dtype, row_shape, rows_max=rows_max, make_reserve=make)
        self._columns[name] = column
        return column

    def remove(self, name: str) -> Column:
        """Take a column out; its memory goes once nobody refers to it. KeyError if unknown."""
        return self._columns.pop(name)

    def digests(self) -> dict[str, bytes]:
        """Column digests by name, in order."""
        return {column.name: column.digest() for column in self}

    def digest(self) -> bytes:
        """16 bytes over all column digests in order of the names."""
        joined = b"".join(column.digest() for column in self)
        return blake2b(joined, digest_size=DIGEST_BYTES).digest()

    def freeze(self) -> list[FrozenColumn]:
        """Freeze every column, in order. The writer must be out of the way, as for one column."""
        return [column.freeze() for column in self]

    def load_column(
        self, meta: ColumnMeta, chunks: Iterable[bytes | memoryview], digests: Sequence[bytes] = ()
    ) -> Column:
        """Restore a column from its chunks in order.

        `digests`, when given, are one for each chunk and already verified against the bytes: they
        are remembered, so that the first digest after a restart costs nothing. Corruption if the
        chunks are not as long as the meta says; ValueError if the name is taken.
        """
        if meta.name in self._columns:
            raise ValueError(f"column {meta.name!r} exists")
        try:
            make = self._reserves.get(meta.name, Reserve)
            column = Column(
                meta.name, meta.dtype, meta.row_shape, rows_max=meta.rows_max, make_reserve=make
            )
            column.resize(meta.rows)
            position = 0
            for number, data in enumerate(chunks):
                first, stop = meta.chunk_span(number)
                if first != position or stop - first != len(data):
                    raise ValueError(f"chunk {number} has {len(data)} bytes, not {stop - first}")
                position = column.load(position, data, digests[number] if digests else b"")
            if position != meta.rows * meta.row_bytes:
                raise ValueError(f"{position} bytes for {meta.rows} rows")
        except (TypeError, ValueError, IndexError) as error:
            raise Corruption(f"column {meta.name!r} cannot be restored: {error}") from error
        self._columns[meta.name] = column
        return column
