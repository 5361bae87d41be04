"""Which collections there are. Derived from the `c/{uid}/schema` columns at start; the two
dictionaries are replaced, never changed, so that readers in other threads need no lock."""

from balsadb.columns import ColumnSet
from balsadb.database.collection import Collection, stored_uids
from balsadb.database.schema import Schema
from balsadb.errors import CollectionNotFound
from balsadb.types import CollectionUid


class Catalog:
    """Collections by name and by uid."""

    def __init__(self, columns: ColumnSet) -> None:
        """Open every collection whose columns are in the set."""
        self._columns = columns
        self.distances_retired = 0
        opened = [Collection(columns, uid, None) for uid in list(stored_uids(columns))]
        self.by_uid: dict[CollectionUid, Collection] = {one.uid: one for one in opened}
        self.by_name: dict[str, Collection] = {one.schema.name: one for one in opened}

    def get(self, name: str) -> Collection:
        """A collection. CollectionNotFound."""
        found = self.by_name.get(name)
        if found is None:
            raise CollectionNotFound(name)
        return found

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(self.by_name)

    def create(self, uid: CollectionUid, schema: Schema) -> None:
        """A new collection; the name is free."""
        made = Collection(self._columns, uid, schema)
        self.by_uid = {**self.by_uid, uid: made}
        self.by_name = {**self.by_name, schema.name: made}

    def drop(self, collection: Collection) -> None:
        """Remove a collection, once no reader is in it."""
        self.by_uid = {uid: one for uid, one in self.by_uid.items() if one is not collection}
        self.by_name = {name: one for name, one in self.by_name.items() if one is not collection}
        with collection.lock.exclusive():
            self.distances_retired += collection.distances_total
            collection.drop()

    @property
    def distances_total(self) -> int:
        """Distances computed by this process, dropped collections included."""
        return self.distances_retired + sum(one.distances_total for one in self.by_uid.values())
