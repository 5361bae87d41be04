"""The client: `Client` and `AsyncClient` over one request builder that does no I/O.

    from balsadb import Client

    with Client("http://127.0.0.1:6333") as client:
        client.create_collection("films", {"size": 128, "distance": "Cosine"})
        client.upload("films", vectors=vectors, payloads=payloads)
        points = client.query("films", vectors[7], limit=5, filter={"must": [...]})

Vocabulary
    *call*       one operation of the wire contract: method, path, body, and the type of its result
    *exchange*   a call on its way: its tries, its deadline, its session
    *transport*  what carries one request and brings one answer: HTTP, or the engine in this process
    *session*    who a write is, so that a repeat of it is applied at most once

Map
    `vectors`    lists and buffers to little-endian float32, without NumPy
    `requests`   one function an operation, from arguments to a `Call`
    `uploads`    many points cut into calls
    `failures`   answers to errors of `balsadb.errors`
    `exchange`   tries, deadlines, jitter, sessions
    `http`       the only module here that knows an HTTP library
    `local`      the engine of `balsadb.embedded` as a transport
    `surface`    how a builder becomes a method of both clients
    `client`, `async_client`    the two clients: what differs is `await`

Invariants
    * Both clients have the same methods with the same parameters, taken from `requests`.
    * Every write carries a session and a sequence, and each repeat of it the same ones. So every
      call may be repeated; a `failed` outcome after an `unknown` one is reported as `unknown`.
    * A call ends within its `timeout_s`, repeats and pauses included.
    * 429 is waited for as long as the server asks, and does not count as a try.
    * An error is an instance of the class in `balsadb.errors` that the server raised, with
      `status_code`, `code`, `outcome` and `request_id` as the answer had them.

Costs: a vector that is float32 already is sent as it is, as `bin` inside msgpack; a list is
converted once. Answers are JSON, decoded into the structs of `balsadb.api.results`.

What it does not do: keep state about the cluster, besides which of several addresses answered last.
It needs neither NumPy nor a web framework.
"""

from balsadb.client.async_client import AsyncClient
from balsadb.client.client import Client, open_path
from balsadb.client.exchange import Options
from balsadb.client.uploads import UploadResult

__all__ = ["AsyncClient", "Client", "Options", "UploadResult", "open_path"]
