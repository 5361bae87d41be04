"""The wire contract: what travels between a client and a node, and nothing about how it is served.

Spoken here is Qdrant's REST dialect (its OpenAPI document of version 1.19 and the traps that its
official clients set), plus four additions that its clients ignore: our error facts, the session
headers, `consistency=local`, and msgpack bodies with binary vectors.

Vocabulary
    *route*      an entry of `routes.ROUTES`: method, path, operation, kind, types
    *kind*       `read` (any node may answer), `write` (the leader only; a follower hands it on
                 once), `leader` (the same, changing nothing), `node` (about the node asked)
    *envelope*   `{"result", "status": "ok", "time"}` or, for an error, `{"status": {"error", ...},
                 "time"}`; every answer but `GET /`, `/metrics` and the health texts has one
    *options*    of the query string and headers: `wait`, `timeout`, `consistency`, session
    *slice*      some hundred points of a large body, decoded in one go

Map
    `limits`      every named maximum of a request
    `statuses`    error code <-> HTTP status and the dialect's prefix, in one table
    `envelope`    the bodies of answers; turning an exception into one
    `options`     query string and headers; sessions; consistency
    `identifiers` point ids: u64 or UUID in the four spellings of the dialect
    `collections`, `points`, `queries`    request structs
    `results`     answer structs (documentation and the client's types)
    `codec`       bodies to structs and back, JSON and msgpack
    `slices`      large upserts, piece by piece
    `routes`      the table and its matcher
    `unsupported` the dialect's endpoints that are not served yet

Invariants
    * The server, the in-process transport of the embedded engine and the client all read the same
      table; none of them knows a path of its own.
    * Nothing here imports a web framework, NumPy or the database. A light client needs only this
      package, msgspec and an HTTP library.
    * An unknown key of a request is ignored, as the dialect does, but a key that we know and do not
      serve (`prefetch`, `sparse_vectors`, ...) is refused: silence would change the meaning.
    * A null counts as absent everywhere.

Costs (one core, 128 dimensions): splitting a 27 MB JSON body into points 30 ms, the longest single
hold of the interpreter lock; decoding 256 points 1.5 ms; a msgpack batch with packed vectors is a
view of the body.

What it does not do: check that a collection exists, that a dimension fits, that a filter's operand
has the right type. That needs the database and happens there (`balsadb.database`).
"""
