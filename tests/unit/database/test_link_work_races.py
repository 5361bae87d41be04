"""The linker looks for work on its own thread while collections come and go."""

from typing import Any, cast

from balsadb.database import limits
from balsadb.database.catalog import Catalog
from balsadb.database.linking import link_work, maintenance


class Vanishing:
    """A catalog whose collections are dropped after the first look at them."""

    def __init__(self, catalog: Catalog) -> None:
        self._views = [catalog.by_uid]

    @property
    def by_uid(self) -> dict[Any, Any]:
        return self._views.pop() if self._views else {}


def test_a_collection_dropped_under_the_linker_is_no_error(bench: Any) -> None:
    """Regression: an error on the plan's thread ended the leader's process."""
    bench.create()
    bench.upsert(list(range(limits.GRAPH_ROWS_MIN)))
    catalog = bench.database.catalog
    expected = link_work(catalog, idle=True)
    assert expected is not None
    assert link_work(cast("Catalog", Vanishing(catalog)), idle=True) == expected
    assert maintenance(cast("Catalog", Vanishing(catalog))) == []
