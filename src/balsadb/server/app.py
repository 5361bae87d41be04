"""The application of one node: FastAPI, its routes made from the table in `balsadb.api.routes`."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from balsadb.api.routes import ROUTES, Route, match
from balsadb.cluster.rpc import RawRequest, RawResponse
from balsadb.cluster.settings import NodeSettings
from balsadb.embedded.dispatcher import Dispatcher, Reply, refuse
from balsadb.embedded.operations import About, Operations
from balsadb.embedded.service import Service
from balsadb.errors import BalsaError, NotFound
from balsadb.server import openapi
from balsadb.server.admission import Admission
from balsadb.server.endpoint import Endpoint, run_forwarded
from balsadb.server.gate import CONTEXT, App, Context, Gate, Receive, Scope, Send, send_text
from balsadb.server.metrics import MEDIA_TYPE, Metrics
from balsadb.types import VERSION

__all__ = ["create_app"]


class _WireRoute(APIRoute):
    """A FastAPI route, for the document and the matching, whose requests go straight to an ASGI
    application: no dependency is solved and no model is built."""

    def __init__(self, path: str, endpoint: Any, *, wire: App, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = wire  # pyright: ignore[reportAttributeAccessIssue]


def create_app(service: Service, settings: NodeSettings) -> FastAPI:
    """The REST application over `service`; also takes the requests that other nodes hand on."""
    about = About(
        version=VERSION,
        dialect_version=settings.dialect_version,
        uri=f"http://{settings.peer_host}:{settings.peer_port}",
        timeout_s=settings.request_timeout_s,
    )
    dispatcher = Dispatcher(Operations(service, about))
    metrics = Metrics(about.version)
    admission = Admission()
    app = FastAPI(
        title="BalsaDB",
        version=about.version,
        description=_DESCRIPTION,
        redirect_slashes=False,
        exception_handlers={HTTPException: _unrouted},
    )
    app.add_middleware(Gate, api_key=settings.api_key)  # pyright: ignore[reportArgumentType]
    texts = _texts(service, metrics)
    for route in sorted(ROUTES, key=lambda route: _MATCHING_ORDER.index(route.tag)):
        wire = texts.get(route.operation) or Endpoint(route, dispatcher, metrics, admission)
        app.router.routes.append(_wire_route(route, wire))
    app.openapi = lambda: _document(app)

    async def on_forwarded(request: RawRequest) -> RawResponse:
        return await run_forwarded(app, request)

    service.on_forwarded = on_forwarded
    return app


_MATCHING_ORDER = ("search", "points", "collections", "cluster", "service", "aliases")
"""Routes are tried one after the other, 2 us each: those asked for most come first."""

_DESCRIPTION = (
    "A vector database whose replicas are the same, to the byte. Speaks Qdrant's REST dialect. "
    "Bodies and answers are JSON, or msgpack with vectors as little-endian float32."
)


def _wire_route(route: Route, wire: App) -> APIRoute:
    return _WireRoute(
        route.path.replace("{field}", "{field:path}"),
        _undispatched,
        wire=wire,
        methods=[route.method],
        operation_id=route.operation,
        name=route.operation,
        summary=route.summary,
        tags=[route.tag],
        openapi_extra=openapi.operation(route),
        response_class=Response,
    )


async def _undispatched(request: Request) -> Response:
    """Stands for every route in FastAPI's eyes; never runs."""
    raise NotImplementedError(request.url.path)


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        app.openapi_schema = openapi.complete(document)
    return app.openapi_schema


def _texts(service: Service, metrics: Metrics) -> dict[str, App]:
    """The endpoints that answer with plain text."""

    async def alive(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await send_text(send, 200, f"{scope['path'].strip('/')} check passed")

    async def ready(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        is_ready, reason = service.ready()
        await send_text(send, 200 if is_ready else 503, reason)

    async def figures(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        text = (await metrics.render(service)).decode()
        await send_text(send, 200, text, MEDIA_TYPE.partition("; charset")[0])

    return {"healthz": alive, "livez": alive, "readyz": ready, "metrics": figures}


async def _unrouted(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the shape of every other error."""
    context: Context = request.scope[CONTEXT]
    try:
        match(request.method, request.url.path)
        found: BalsaError = NotFound(f"no such path: {request.url.path}")
    except BalsaError as unmatched:
        found = unmatched
    reply: Reply = refuse(found, context.headers, context.request_id)
    headers = dict(reply.headers)
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    allowed = getattr(found, "allowed", None)
    if allowed:
        headers["Allow"] = ", ".join(allowed)
    return Response(reply.content, reply.status, headers, reply.media)
