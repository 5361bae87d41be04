"""What a node needs to know to start: one frozen value, filled by the command line, the
environment or a file (`balsadb.cli.settings`), read by everything below.

Every figure has its unit in its name. Defaults are the ones the documentation promises; a test
compares them.
"""

import msgspec

from balsadb.errors import InvalidInput

CLIENT_PORT = 6333
PEER_PORT = 6335
PORT_STEP = 10
"""A local cluster's node i listens on CLIENT_PORT + 10 i and PEER_PORT + 10 i."""


_RANGES = (
    ("port", 0, 65535),
    ("peer_port", 0, 65535),
    ("tick_ms", 10, 1000),
    ("link_threads", 1, 256),
)


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one node.

    `members` maps a node id to its peer address (`host:port`); it counts only on an empty data
    directory, must be the same on all nodes, and must contain `node`. Empty means a cluster of one.
    """

    node: int = 1
    data: str = "./data/node1"
    host: str = "127.0.0.1"
    port: int = CLIENT_PORT
    peer_host: str = "127.0.0.1"
    peer_port: int = PEER_PORT
    members: dict[int, str] = {}
    cluster_name: str = "balsadb"
    cluster_secret: str = ""
    api_key: str = ""
    tick_ms: int = 50
    heartbeat_ticks: int = 2
    election_ticks: int = 10
    request_timeout_s: float = 30.0
    checkpoint_log_bytes: int = 64 << 20
    log_tail_bytes: int = 16 << 20
    log_bytes_max: int = 512 << 20
    wal_segment_bytes: int = 64 << 20
    link_threads: int = 1
    dialect_version: str = "1.19.0"

    def check(self) -> None:
        """Raise `InvalidInput` naming the first setting that breaks its rule."""
        loopback = ("127.0.0.1", "localhost", "::1")
        if self.node < 1:
            raise InvalidInput("node", "must be 1 or larger")
        for name, least, most in _RANGES:
            if not least <= getattr(self, name) <= most:
                raise InvalidInput(name, f"must be {least} to {most}")
        if self.host not in loopback and not self.api_key:
            raise InvalidInput("host", "needs an api_key to listen beyond loopback")
        if self.peer_host not in loopback and not self.cluster_secret:
            raise InvalidInput("peer_host", "needs a cluster_secret to listen beyond loopback")
        if self.members and self.node not in self.members:
            raise InvalidInput("members", f"must contain this node ({self.node})")
        if not self.heartbeat_ticks < self.election_ticks:
            raise InvalidInput("heartbeat_ticks", "must be below election_ticks")
        if not self.log_tail_bytes < self.checkpoint_log_bytes < self.log_bytes_max:
            raise InvalidInput(
                "checkpoint_log_bytes", "must lie between log_tail_bytes and log_bytes_max"
            )
