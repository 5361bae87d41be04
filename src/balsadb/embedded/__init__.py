"""The engine without a web server: what every endpoint does, and a node inside one's own process.

Vocabulary
    *service*      one node as its callers see it: write through the log, read after a barrier
    *operation*    what one endpoint does: request struct in, result out; knows no HTTP
    *dispatcher*   bytes in, bytes out: route table, decoding, operation, encoding
    *engine*       a single node without sockets (`balsadb.open(path)`), called through a dispatcher
    *bare index*   `Index`: the graph without points, payloads, log or server

Invariants
    * The REST server and the in-process engine run the same dispatcher, so that an answer has the
      same bytes over either.
    * An operation checks what needs no database; the database checks the rest. Whichever refuses, a
      request that is refused has changed nothing.
    * Nothing here holds the event loop for long: large bodies are decoded slice by slice, and reads
      that may take long run on a thread (`operations.HEAVY_*`).

Costs: an operation adds about 20 us to the read or write it makes.

What it does not do: authentication, forwarding to the leader, metrics (all `balsadb.server`).
"""
