"""What each endpoint does: a decoded request in, a result out. No HTTP, no encoding.

Each public method of `Operations` carries the name of its line in `balsadb.api.routes`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from balsadb.api import cluster, collections, points, queries
from balsadb.api.identifiers import PointId, parse_id, parse_ids, parse_path_id
from balsadb.api.limits import BATCH_POINTS_MAX, PAGE_MAX, SEARCH_BATCH_MAX
from balsadb.api.options import DEFAULT_OPTIONS, Options
from balsadb.api.quantization import quantization_of
from balsadb.database.database import Database
from balsadb.database.requests import (
    INT8,
    ClearPayload,
    CreateCollection,
    CreatePayloadIndex,
    DeleteCollection,
    DeletePayloadIndex,
    DeletePayloadKeys,
    DeletePoints,
    HnswParams,
    OverwritePayload,
    Request,
    SessionKey,
    SetPayload,
    UpdateCollection,
    VectorParams,
)
from balsadb.database.results import ScoredPoint
from balsadb.database.selection import Query, Selection
from balsadb.embedded import shapes
from balsadb.embedded.arrays import gather_upsert
from balsadb.embedded.searches import is_heavy, search_of
from balsadb.embedded.service import Service, Written
from balsadb.errors import CollectionNotFound, InvalidInput, LimitExceeded, PointNotFound

T = TypeVar("T")

SCROLL_DEFAULT = 10
NODE_DIGITS_MAX = 9
HEAVY_PAGE = 256
"""A page of more points is read on a thread."""


class About(msgspec.Struct, frozen=True):
    """Fixed facts of the node: our version, the dialect's, its own address, and the default time
    in seconds that a request may take."""

    version: str
    dialect_version: str
    uri: str = ""
    timeout_s: float = 30.0


class Call(msgspec.Struct, frozen=True):
    """One request: the values in its path, its options, and its decoded body (for an upsert, an
    `api.slices.Upsert`)."""

    values: dict[str, str]
    options: Options = DEFAULT_OPTIONS
    body: Any = None

    @property
    def collection(self) -> str:
        """The collection in the path."""
        return self.values["collection"]


class Operations:
    """The endpoints over one node's service."""

    def __init__(self, service: Service, about: About) -> None:
        self.service = service
        self.about = about

    # --- the node and the cluster ---

    async def service_info(self, call: Call) -> Any:
        """Name and versions."""
        del call
        return {
            "title": "balsadb - vector database",
            "version": self.about.dialect_version,
            "commit": None,
            "balsadb": self.about.version,
        }

    async def telemetry(self, call: Call) -> Any:
        """What this node is and how much it holds; nothing leaves the node on its own."""
        names = await self._read(call, lambda database: database.collections(), local=True)
        return {
            "id": self.about.uri,
            "app": {"name": "balsadb", "version": self.about.version},
            "collections": {"number_of_collections": len(names)},
            "cluster": {"enabled": True},
        }

    async def cluster_status(self, call: Call) -> Any:
        """The cluster as this node sees it."""
        del call
        return shapes.cluster_status(await self.service.status(), self.about.uri)

    async def cluster_verify(self, call: Call) -> Any:
        """All nodes' digests at one log index."""
        return await self.service.verify(self._timeout_s(call))

    # --- members ---

    async def list_members(self, call: Call) -> Any:
        """Every member."""
        del call
        return await self.service.members()

    async def add_member(self, call: Call) -> Any:
        """A learner more."""
        body: cluster.AddMember = call.body
        await self.service.add_member(body.id, body.address, self._timeout_s(call))
        return True

    async def move_member(self, call: Call) -> Any:
        """Another address of a member."""
        body: cluster.MoveMember = call.body
        await self.service.move_member(_member(call), body.address, self._timeout_s(call))
        return True

    async def promote_member(self, call: Call) -> Any:
        """A vote for a learner."""
        await self.service.promote_member(_member(call), self._timeout_s(call))
        return True

    async def remove_member(self, call: Call) -> Any:
        """A member less."""
        body: cluster.RemoveMember = call.body
        timeout_s = self._timeout_s(call)
        await self.service.remove_member(_member(call), force=body.force, timeout_s=timeout_s)
        return True

    async def transfer_leader(self, call: Call) -> Any:
        """Another leader."""
        body: cluster.Transfer = call.body
        await self.service.transfer_leader(body.to)
        return True

    # --- collections ---

    async def list_collections(self, call: Call) -> Any:
        """All collections."""
        names = await self._read(call, lambda database: database.collections())
        return {"collections": [{"name": name} for name in names]}

    async def get_collection(self, call: Call) -> Any:
        """State and configuration of one."""
        name = call.collection
        # On a thread: the first time, the typed values of all declared keys are built for it.
        info = await self._read(call, lambda database: database.info(name), heavy=True)
        return shapes.collection_info(info)

    async def collection_exists(self, call: Call) -> Any:
        """Whether it exists."""
        name = call.collection
        return {"exists": await self._read(call, lambda database: database.exists(name))}

    async def create_collection(self, call: Call) -> Any:
        """Create one."""
        body: collections.CreateCollection = call.body
        vectors = collections.vectors_of(body)
        hnsw = _merged(body.hnsw_config, [params.hnsw_config for params in vectors.values()])
        request = CreateCollection(
            call.collection,
            {
                name: VectorParams(params.size, params.distance, _own_quantization(params))
                for name, params in vectors.items()
            },
            hnsw,
            collections.collection_quantization(body) or INT8,
        )
        await self._write(call, request)
        return True

    async def update_collection(self, call: Call) -> Any:
        """Change the parameters that may change."""
        body: collections.UpdateCollection = call.body
        collections.check_update(body)
        hnsw = body.hnsw_config or collections.HnswParams()
        request = UpdateCollection(
            call.collection,
            hnsw.ef_construct,
            hnsw.full_scan_threshold,
            hnsw.m,
            quantization_of(body.quantization_config, "quantization_config"),
            collections.vector_quantizations(body),
        )
        await self._write(call, request)
        return True

    async def delete_collection(self, call: Call) -> Any:
        """Delete one; False if there was none."""
        written = await self._write(call, DeleteCollection(call.collection))
        return bool(written.value)

    async def create_index(self, call: Call) -> Any:
        """Make a payload key a typed column."""
        body: collections.CreateFieldIndex = call.body
        kind = collections.index_kind(body)
        return await self._update(call, CreatePayloadIndex(call.collection, body.field_name, kind))

    async def delete_index(self, call: Call) -> Any:
        """Forget a payload key's type."""
        return await self._update(call, DeletePayloadIndex(call.collection, call.values["field"]))

    async def list_aliases(self, call: Call) -> Any:
        """Aliases are not served yet: there are none."""
        del call
        return {"aliases": []}

    async def collection_aliases(self, call: Call) -> Any:
        """Aliases of a collection that exists."""
        if not (await self.collection_exists(call))["exists"]:
            raise CollectionNotFound(call.collection)
        return {"aliases": []}

    # --- points ---

    async def upsert_points(self, call: Call) -> Any:
        """Store points."""
        return await self._update(call, await gather_upsert(call.collection, call.body))

    async def delete_points(self, call: Call) -> Any:
        """Delete points by ids or filter."""
        body: points.DeletePoints = call.body
        ids = _selected(body.points if body.points is not None else body.ids, body.filter)
        return await self._update(call, DeletePoints(call.collection, ids, body.filter))

    async def set_payload(self, call: Call) -> Any:
        """Merge payload keys."""
        body: points.SetPayload = call.body
        ids = _selected(body.points, body.filter)
        request = SetPayload(call.collection, body.payload, ids, body.filter, body.key)
        return await self._update(call, request)

    async def overwrite_payload(self, call: Call) -> Any:
        """Replace payloads; with a `key`, the dialect merges as `set` does."""
        body: points.SetPayload = call.body
        if body.key is not None:
            return await self.set_payload(call)
        ids = _selected(body.points, body.filter)
        request = OverwritePayload(call.collection, body.payload, ids, body.filter)
        return await self._update(call, request)

    async def delete_payload(self, call: Call) -> Any:
        """Remove payload keys."""
        body: points.DeletePayload = call.body
        ids = _selected(body.points, body.filter)
        return await self._update(
            call, DeletePayloadKeys(call.collection, body.keys, ids, body.filter)
        )

    async def clear_payload(self, call: Call) -> Any:
        """Empty payloads."""
        body: points.ClearPayload = call.body
        ids = _selected(body.points, body.filter)
        return await self._update(call, ClearPayload(call.collection, ids, body.filter))

    async def retrieve_points(self, call: Call) -> Any:
        """Points by id; unknown ones are left out."""
        body: points.RetrievePoints = call.body
        if len(body.ids) > PAGE_MAX:
            raise LimitExceeded("ids", f"must be at most {PAGE_MAX}, not {len(body.ids)}")
        ids = parse_ids(body.ids, "ids")
        chosen = selection(body, payload=True)
        name = call.collection
        return await self._read(
            call,
            lambda database: database.retrieve(name, ids, selection=chosen),
            heavy=len(ids) > HEAVY_PAGE,
        )

    async def get_point(self, call: Call) -> Any:
        """One point with all it has."""
        name, point = call.collection, parse_path_id(call.values["id"])
        chosen = Selection(payload=True, vector=True)
        found = await self._read(
            call, lambda database: database.retrieve(name, [point], selection=chosen)
        )
        if not found:
            raise PointNotFound(f"Point with id {point} does not exist in `{name}`!")
        return found[0]

    async def scroll_points(self, call: Call) -> Any:
        """A page of points in the order of their ids."""
        body: points.ScrollPoints = call.body
        if body.order_by:
            raise InvalidInput("order_by", "is not supported")
        limit = queries.page_limit(body.limit, SCROLL_DEFAULT)
        offset = None if body.offset is None else parse_id(body.offset, "offset")
        chosen, name, filtering = selection(body, payload=True), call.collection, body.filter
        return await self._read(
            call,
            lambda database: database.scroll(
                name, limit=limit, offset=offset, filter=filtering, selection=chosen
            ),
            heavy=True,  # the order of ids may have to be sorted first
        )

    async def count_points(self, call: Call) -> Any:
        """How many points match."""
        body: points.CountPoints = call.body
        name, filtering = call.collection, body.filter
        count = await self._read(
            call,
            lambda database: database.count(name, filter=filtering),
            heavy=filtering is not None,
        )
        return {"count": count}

    # --- search ---

    async def query_points(self, call: Call) -> Any:
        """The nearest points."""
        return {"points": await self._search(call, call.body)}

    async def query_batch(self, call: Call) -> Any:
        """Several searches."""
        body: queries.QueryBatch = call.body
        return [{"points": found} for found in await self._searches(call, body.searches)]

    async def search_points(self, call: Call) -> Any:
        """The older search: a bare list."""
        return await self._search(call, queries.as_query(call.body))

    async def search_batch(self, call: Call) -> Any:
        """Several older searches."""
        body: queries.SearchBatch = call.body
        return await self._searches(call, [queries.as_query(each) for each in body.searches])

    # --- the way in and out ---

    async def _search(self, call: Call, request: queries.QueryRequest) -> list[ScoredPoint]:
        name, query = call.collection, search_of(request, selection(request, payload=False))
        return await self._read(
            call, lambda database: database.query(name, query), heavy=is_heavy(query)
        )

    async def _searches(
        self, call: Call, requests: list[queries.QueryRequest]
    ) -> list[list[ScoredPoint]]:
        if len(requests) > SEARCH_BATCH_MAX:
            raise LimitExceeded("searches", f"must be at most {SEARCH_BATCH_MAX}")
        parsed: list[Query] = []
        for position, request in enumerate(requests):
            try:
                parsed.append(search_of(request, selection(request, payload=False)))
            except InvalidInput as error:
                field = f"searches[{position}].{error.field}"
                raise type(error)(field, error.rule) from None
        name = call.collection
        return await self._read(
            call,
            lambda database: database.query_many(name, parsed),
            heavy=len(parsed) > 1,
        )

    async def _read(
        self,
        call: Call,
        function: Callable[[Database], T],
        *,
        heavy: bool = False,
        local: bool = False,
    ) -> T:
        return await self.service.read(
            function,
            local=local or call.options.local,
            timeout_s=self._timeout_s(call),
            heavy=heavy,
        )

    async def _write(self, call: Call, request: Request, *, wait: bool = True) -> Written:
        session = call.options.session
        key = None if session is None else SessionKey(session.session, session.sequence)
        return await self.service.write(
            request, wait=wait, timeout_s=self._timeout_s(call), session=key
        )

    async def _update(self, call: Call, request: Request) -> Any:
        wait = call.options.wait
        written = await self._write(call, request, wait=wait)
        status = "completed" if wait else "acknowledged"
        return {"operation_id": written.operation_id, "status": status}

    def _timeout_s(self, call: Call) -> float:
        return call.options.timeout_s or self.about.timeout_s


def selection(body: Any, *, payload: bool) -> Selection:
    """What an answer shows of a point, from `with_payload` and `with_vector(s)` of a request."""
    return Selection(
        payload=queries.payload_selector(body.with_payload, default=payload),
        vector=queries.vector_selector(body.with_vector, body.with_vectors),
    )


def _selected(ids: list[int | str] | None, filtering: Any) -> list[PointId] | None:
    points.check_selector(ids, filtering)
    if ids is None:
        return None
    if len(ids) > BATCH_POINTS_MAX:
        raise LimitExceeded("points", f"must be at most {BATCH_POINTS_MAX}, not {len(ids)}")
    return parse_ids(ids, "points")


def _own_quantization(params: collections.VectorParams) -> str | None:
    return quantization_of(params.quantization_config, "quantization_config")


def _merged(
    general: collections.HnswParams | None, named: list[collections.HnswParams | None]
) -> HnswParams:
    """One set of graph parameters for the collection; a vector's own count if all agree."""
    first = named[0]
    if any(params != first for params in named):
        raise InvalidInput("vectors", "must have the same hnsw_config for every name")
    given: dict[str, int] = {}
    for params in (general, first):
        if params is None:
            continue
        for name in ("m", "ef_construct", "full_scan_threshold"):
            value = getattr(params, name)
            if value is not None:
                given[name] = value
    return HnswParams(**given)


def _member(call: Call) -> int:
    """The node in the path."""
    text = call.values["member"]
    if not (text.isascii() and text.isdecimal() and len(text) <= NODE_DIGITS_MAX):
        raise InvalidInput("member", "must be a node's number")
    return int(text)
