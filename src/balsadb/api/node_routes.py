"""The routes of the node and of the cluster."""

from typing import Any

from balsadb.api import cluster, results
from balsadb.api.route import Route


def _text_route(path: str, summary: str) -> Route:
    return Route(
        "GET",
        path,
        path[1:],
        "node",
        "service",
        summary,
        result=str,
        media="text/plain",
        enveloped=False,
    )


NODE_ROUTES = (
    Route(
        "GET",
        "/",
        "service_info",
        "node",
        "service",
        "Name and versions",
        result=results.ServiceInfo,
        enveloped=False,
    ),
    _text_route("/healthz", "The process runs"),
    _text_route("/livez", "The process runs"),
    _text_route("/readyz", "The node can serve"),
    _text_route("/metrics", "Figures for Prometheus"),
    Route(
        "GET",
        "/telemetry",
        "telemetry",
        "node",
        "service",
        "What this node is and holds",
        result=dict[str, Any],
    ),
    Route(
        "GET",
        "/cluster",
        "cluster_status",
        "node",
        "cluster",
        "The cluster as this node sees it",
        result=dict[str, Any],
    ),
    Route(
        "GET",
        "/cluster/verify",
        "cluster_verify",
        "leader",
        "cluster",
        "Compare the digests of every column on every node at one log index",
        result=dict[str, Any],
    ),
)

_M = "/cluster/members"
MEMBER_ROUTES = (
    Route(
        "GET",
        _M,
        "list_members",
        "leader",
        "cluster",
        "Every member: role, address, progress",
        result=list[dict[str, Any]],
    ),
    Route(
        "POST",
        _M,
        "add_member",
        "leader",
        "cluster",
        "Take a node in, as a learner without a vote",
        body=cluster.AddMember,
        result=bool,
        example={"id": 4, "address": "127.0.0.1:6375"},
    ),
    Route(
        "PUT",
        _M + "/{member}",
        "move_member",
        "leader",
        "cluster",
        "Reach a member at another address",
        body=cluster.MoveMember,
        result=bool,
        example={"address": "127.0.0.1:6385"},
    ),
    Route(
        "POST",
        _M + "/{member}/promote",
        "promote_member",
        "leader",
        "cluster",
        "Give a learner that has caught up a vote",
        result=bool,
    ),
    Route(
        "POST",
        _M + "/{member}/remove",
        "remove_member",
        "leader",
        "cluster",
        "Take a member out for good",
        body=cluster.RemoveMember,
        body_required=False,
        result=bool,
        example={"force": False},
    ),
    Route(
        "POST",
        "/cluster/transfer",
        "transfer_leader",
        "leader",
        "cluster",
        "Hand leadership to a voter",
        body=cluster.Transfer,
        result=bool,
        example={"to": 2},
    ),
)
