"""What a route is; `balsadb.api.routes` has them all."""

from typing import Any, Literal

import msgspec

Kind = Literal["read", "write", "leader", "node"]
Tag = Literal["collections", "points", "search", "aliases", "cluster", "service"]


class Route(msgspec.Struct, frozen=True):
    """One endpoint.

    `kind`: `read` may run anywhere, `write` and `leader` only on the leader (a follower hands them
    on), `node` is about the node asked. `body` and `result` are types (None: no body); `sliced`
    bodies are decoded by `api.slices` although `body` describes them.
    """

    method: str
    path: str
    operation: str
    kind: Kind
    tag: Tag
    summary: str
    body: Any = None
    result: Any = None
    example: Any = None
    sliced: bool = False
    media: str = "application/json"
    enveloped: bool = True
    body_required: bool = True

    @property
    def leader_only(self) -> bool:
        """Whether only the leader can answer."""
        return self.kind in ("write", "leader")

    @property
    def changes(self) -> bool:
        """Whether a request that got no answer may have changed something all the same."""
        return self.kind == "write" or (self.kind == "leader" and self.method != "GET")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the path, in order."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


class Match(msgspec.Struct, frozen=True):
    """A route found for a method and a path, with the path's values (percent-decoded)."""

    route: Route
    values: dict[str, str]
