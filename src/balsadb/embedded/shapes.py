"""What the database and the cluster report, in the shapes that the dialect's clients expect."""

import time
from collections.abc import Mapping
from typing import Any, cast

from balsadb.api import results
from balsadb.api.quantization import config_of
from balsadb.database.results import CollectionInfo, VectorInfo


def collection_info(info: CollectionInfo) -> results.CollectionInfo:
    """A collection's state and configuration. Vector parameters carry no key of ours: clients
    refuse unknown ones there. Nor can they say that a vector's quantisation is off."""
    vectors: Any = {
        name: results.VectorParamsInfo(
            size=vector.size,
            distance=vector.distance,
            quantization_config=config_of(vector.quantization) if vector.own_quantization else None,
        )
        for name, vector in info.vectors.items()
    }
    if list(info.vectors) == [""]:
        vectors = vectors[""]
    return results.CollectionInfo(
        status=info.status,
        optimizer_status="ok",
        segments_count=1,
        points_count=info.points_count,
        indexed_vectors_count=info.indexed_vectors_count,
        config=results.CollectionConfig(
            params=results.CollectionParams(vectors=vectors),
            hnsw_config=results.HnswInfo(
                m=info.m,
                ef_construct=info.ef_construct,
                full_scan_threshold=info.full_scan_threshold,
            ),
            optimizer_config=results.OptimizerInfo(),
            quantization_config=config_of(info.quantization),
        ),
        payload_schema={
            field: results.PayloadIndexInfo(data_type=index.data_type, points=index.points)
            for field, index in info.payload_schema.items()
        },
        balsadb=results.CollectionState(
            {name: _vector_state(vector) for name, vector in info.vectors.items()}
        ),
    )


def _vector_state(vector: VectorInfo) -> results.VectorState:
    return results.VectorState(
        quantization=vector.quantization,
        quantisers=vector.codes.epoch,
        code_rows=vector.codes.rows,
        coded_rows=vector.codes.coded,
        linked=vector.linked,
        tail=vector.tail,
        graph_version=vector.graph_version,
    )


def cluster_status(status: Mapping[str, Any], uri: str) -> dict[str, Any]:
    """`GET /cluster`: the dialect's shape, and all our figures under `balsadb`.

    `status` is what `Service.status` returns; `uri` is this node's own address.
    """
    node = int(status.get("node", 0))
    leader = int(status.get("leader", 0))
    addresses = cast("dict[str, str]", status.get("addresses") or {})
    peers = {str(node): {"uri": uri}}
    peers.update((peer, {"uri": f"http://{address}"}) for peer, address in addresses.items())
    role = str(status.get("role", "follower"))
    commit = int(status.get("commit", 0))
    return {
        "status": "enabled",
        "peer_id": node,
        "peers": dict(sorted(peers.items(), key=lambda item: int(item[0]))),
        "raft_info": {
            "term": int(status.get("term", 0)),
            "commit": commit,
            "pending_operations": max(0, commit - int(status.get("applied", commit))),
            "leader": leader or None,
            "role": _ROLES.get(role, "Follower"),
            "is_voter": True,
        },
        "consensus_thread_status": {
            "consensus_thread_status": "working",
            "last_update": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
        "message_send_failures": {},
        "balsadb": dict(status),
    }


_ROLES = {
    "leader": "Leader",
    "follower": "Follower",
    "candidate": "Candidate",
    "pre_candidate": "PreCandidate",
}
