"""Named maxima of a request; each is refused with a 4xx that names the field and the figure.

A limit belongs here if it can be checked on the request alone. The database checks the same figures
again (`balsadb.database.limits`), because a request can reach it without a wire.
"""

PAGE_MAX = 10_000
"""`limit` of a scroll, a query or a search, and ids of one retrieve."""

OFFSET_MAX = 100_000
"""`offset` of a query."""

BODY_BYTES_MAX = 32 << 20
"""Bytes of a request body; larger ones are refused with 413 before they are read to the end."""

BODY_READ_TIMEOUT_S = 30
"""Seconds until a request's body must have arrived, if its `timeout` is not shorter; then 408."""

REQUESTS_MAX = 1_024
"""Requests that one node works on at a time, their bodies read; over it, 429."""

BODIES_BYTES_MAX = 256 << 20
"""Bytes of the bodies of all requests that one node works on; over it, 429."""

ARRIVING_BYTES_MAX = 128 << 20
"""Bytes that have arrived of all bodies still being read, not counting the first
`ARRIVING_BYTES_FREE` of each; over it, 429."""

ARRIVING_BYTES_FREE = 65_536
"""Bytes of a body that may always arrive: searches pass while large bodies fill the maximum."""

BATCH_POINTS_MAX = 10_000
"""Points of one upsert, and ids of one delete or payload operation."""

DIMENSION_MAX = 8_192
"""Components of one vector."""

SEARCH_BATCH_MAX = 1_000
"""Searches of one `query/batch`."""

EF_MAX = 10_000
"""`params.hnsw_ef`."""

TIMEOUT_S_MAX = 3_600
"""`timeout` of a request, in seconds."""

SLICE_POINTS = 256
"""Points decoded in one go."""

SLICE_BYTES = 1 << 20
"""Bytes of points decoded in one go: bounds a slice of long vectors (1 MiB is 12 ms or less)."""

NAME_CHARACTERS_MAX = 255
"""Length of a collection's, vector's or payload key's name."""
