"""The REST server of one node: FastAPI around the dispatcher.

Vocabulary
    *gate*        the one middleware, plain ASGI: request id, API key, the mark of forwarding
    *endpoint*    a route of `balsadb.api.routes` as an ASGI application: body in, answer out
    *forwarding*  a follower hands a request that only the leader can answer to it, as it came, once

Map
    `app`       `create_app(service, settings)`: puts it together
    `gate`      who may ask
    `admission` how much at a time
    `endpoint`  bodies within bounds and a deadline, forwarding, answers, errors
    `openapi`   the document: every route, its structs, its errors
    `metrics`   Prometheus
    `run`       the process

Invariants
    * Pydantic never sees a body: routes are FastAPI routes so that the document is complete, but
      their ASGI application is ours.
    * A request is forwarded at most once. That it was is a fact of the ASGI scope, which only this
      process can set; a header that claims so has no effect.
    * A proxy tries again only what certainly was not done (`not_leader`), within the request's
      time; it never repeats a write whose outcome is unknown.
    * Every answer carries `Balsa-Request-Id`. Every error has one shape, except 401 (plain text, as
      the dialect has it).
    * No redirects: the dialect's clients do not follow them.

Costs: gate, routing, decoding and encoding of a search take about 60 us of one core, Uvicorn with
httptools and the loopback 90 more (128 dimensions, 10 results, keep-alive).

What it does not do: TLS (a proxy or the security issue), rate limits a client.
"""
