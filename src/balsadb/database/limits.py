"""Every maximum of the replicated state machine, by name.

They are constants of the format, not settings: a limit that differed between two nodes would make
the same command succeed on one and fail on the other. Requests over a limit are refused by the
leader, before the log; `apply` checks again those that depend on the state (points, collections).
"""

DIMENSION_MAX = 8_192
"""Components of one vector."""
VECTOR_NORM_MAX = 1e18
"""Euclidean norm of one vector, stored or searched for, under every metric: the scores of longer
ones (squares, products) would not fit in float32."""
COLLECTIONS_MAX = 512
"""Collections of a database; bounds the reserved address space and the number of columns."""
VECTOR_NAMES_MAX = 16
"""Named vectors of one collection."""
PAYLOAD_INDEXES_MAX = 64
"""Declared payload indexes of one collection."""
NAME_LENGTH_MAX = 255
"""Characters of a collection's, vector's or payload key's name."""
POINTS_MAX = 1 << 24
"""Points of one collection (slots)."""
VECTOR_COLUMN_BYTES_MAX = 16 << 30
"""Address space reserved for the vectors of one name; bounds its rows, as `POINTS_MAX` does."""
PAYLOAD_HEAP_BYTES_MAX = 8 << 30
"""Bytes of all payloads of one collection, dead ones included until the heap is compacted."""
PAYLOAD_BYTES_MAX = 512 << 10
"""Canonical JSON of one point's payload."""
PAYLOAD_DEPTH_MAX = 128
"""Objects and lists inside one another in a payload. Its decoder recurses, and how far it may do
that depends on the caller's stack: apply must never be the one to find out."""
SCHEMA_BYTES_MAX = 1 << 20
"""Canonical JSON of one collection's schema."""
BATCH_POINTS_MAX = 10_000
"""Points (or ids) of one request."""
COMMAND_POINTS_MAX = 256
"""Points of one command: what one exclusive hold of the collection's lock changes."""
COMMAND_BYTES_MAX = 1 << 20
"""Encoded length of one command."""
PAGE_MAX = 10_000
"""`limit` of scroll and query."""
ANSWER_COMPONENTS_MAX = 1 << 24
"""Components of all vectors of one answer; on their way out, they take some 32 bytes each."""
BATCH_RESULTS_MAX = 100_000
"""`limit` of all queries of one batch together."""
OFFSET_MAX = 100_000
"""`offset` of query (the pages before it are computed and thrown away)."""
EF_MAX = 10_000
"""`hnsw_ef` of query."""
M_MIN = 4
M_MAX = 64
"""Links a row keeps on layers above 0 (twice as many on layer 0)."""
EF_CONSTRUCT_MIN = 4
EF_CONSTRUCT_MAX = 2_000
FULL_SCAN_THRESHOLD_MAX = 1_000_000_000
FILTER_DEPTH_MAX = 16
"""Filters nested in filters."""
FILTER_CONDITIONS_MAX = 1_000
"""Conditions of one filter, nested ones included."""
FILTER_KEYS_MAX = 64
"""Different payload keys of one filter: half of `DERIVED_KEYS_MAX`, so that the typed values of a
filter's first key are still there when its last is built."""
MATCH_VALUES_MAX = 10_000
"""Operands of `match.any`, `match.except` and ids of `has_id`."""
PAYLOAD_KEYS_MAX = 1_000
"""Keys named by one delete-payload request or payload selector."""
DERIVED_KEYS_MAX = 128
"""Payload keys of one collection whose typed values a node holds; beyond it, the oldest goes."""
SESSIONS_MAX = 4_096
"""Sessions remembered; beyond it the one used longest ago is forgotten."""
SESSION_WINDOW = 32
"""Sequences remembered of one session: requests of one session that may be in flight at once."""
LINK_BATCH = 1_024
"""Tail length that makes the leader plan an edit although the collection is being written."""
GRAPH_ROWS_MIN = 2_000
"""Rows below which a vector name has no graph: an exact scan is as fast."""
CODES_ROWS_MIN = 2_048
"""Rows of a vector name from which walks go by 8-bit codes; below, float32 is as fast."""
DEAD_ROWS_MIN = 512
"""Dead rows that were never linked below which no edit frees them."""
HEAP_DEAD_BYTES_MIN = 4 << 20
"""Dead payload bytes below which a heap is never compacted."""
