"""The endpoints of the dialect that no node serves yet, so that a request for one is told so.

A path that is served as well (with another method, or because `batch` may be a point's id) is
looked up here only after the routes have no answer.
"""

_C = "/collections/{collection}"
_P = _C + "/points"
_S = _C + "/shards"

UNSUPPORTED: tuple[tuple[str, str], ...] = (
    ("POST", _P + "/batch"),
    ("PUT", _P + "/vectors"),
    ("POST", _P + "/vectors/delete"),
    ("POST", _P + "/facet"),
    ("POST", _P + "/query/groups"),
    ("POST", _P + "/search/groups"),
    ("POST", _P + "/search/matrix/pairs"),
    ("POST", _P + "/search/matrix/offsets"),
    ("POST", _P + "/recommend"),
    ("POST", _P + "/recommend/batch"),
    ("POST", _P + "/recommend/groups"),
    ("POST", _P + "/discover"),
    ("POST", _P + "/discover/batch"),
    ("POST", "/collections/aliases"),
    ("GET", _C + "/optimizations"),
    ("GET", _C + "/cluster"),
    ("POST", _C + "/cluster"),
    ("GET", _S),
    ("PUT", _S),
    ("POST", _S + "/delete"),
    ("GET", _S + "/{shard}/snapshot"),
    ("GET", _S + "/{shard}/snapshots"),
    ("POST", _S + "/{shard}/snapshots"),
    ("PUT", _S + "/{shard}/snapshots/recover"),
    ("POST", _S + "/{shard}/snapshots/upload"),
    ("GET", _S + "/{shard}/snapshots/{snapshot}"),
    ("DELETE", _S + "/{shard}/snapshots/{snapshot}"),
    ("GET", _C + "/snapshots"),
    ("POST", _C + "/snapshots"),
    ("PUT", _C + "/snapshots/recover"),
    ("POST", _C + "/snapshots/upload"),
    ("GET", _C + "/snapshots/{snapshot}"),
    ("DELETE", _C + "/snapshots/{snapshot}"),
    ("GET", "/snapshots"),
    ("POST", "/snapshots"),
    ("GET", "/snapshots/{snapshot}"),
    ("DELETE", "/snapshots/{snapshot}"),
    ("POST", "/cluster/recover"),
    ("DELETE", "/cluster/peer/{peer}"),
    ("GET", "/cluster/telemetry"),
    ("GET", "/issues"),
    ("DELETE", "/issues"),
    ("GET", "/locks"),
    ("POST", "/locks"),
)
"""Method and path of each."""
