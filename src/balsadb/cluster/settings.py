"""What a node needs to know to start: one frozen value, filled by the command line, the
environment or a file (`balsadb.cli.settings`), read by everything below.

Every figure has its unit in its name. Defaults are the ones the documentation promises; a test
compares them.
"""

import math
import re

import msgspec

from balsadb.errors import InvalidInput

CLIENT_PORT = 6333
PEER_PORT = 6335
PORT_STEP = 10
"""A local cluster's node i listens on CLIENT_PORT + 10 i and PEER_PORT + 10 i."""
NODE_MAX = 999_999_999
REQUEST_TIMEOUT_S_MAX = 3600.0

_RANGES = (
    ("node", 1, NODE_MAX),
    ("port", 0, 65535),
    ("peer_port", 0, 65535),
    ("tick_ms", 10, 1000),
    ("heartbeat_ticks", 1, 1000),
    ("election_ticks", 2, 1000),
    ("log_tail_bytes", 0, 1 << 40),
    ("checkpoint_log_bytes", 1, 1 << 40),
    ("log_bytes_max", 1, 1 << 40),
    ("wal_segment_bytes", 4 << 10, 256 << 20),
    ("disk_low_bytes", 0, 1 << 50),
    ("disk_full_bytes", 0, 1 << 50),
    ("link_threads", 1, 256),
)
_NEVER_EMPTY = ("data", "host", "peer_host", "cluster_name")
_ASCENDING = (
    ("heartbeat_ticks", "election_ticks"),
    ("log_tail_bytes", "checkpoint_log_bytes"),
    ("checkpoint_log_bytes", "log_bytes_max"),
)
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_address(text: str) -> bool:
    """Whether it is a host and a port, `host:port`."""
    host, _, port = text.rpartition(":")
    named = re.fullmatch(r"[A-Za-z0-9._:%\[\]-]{1,255}", host, re.ASCII)
    return bool(named and re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535)


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one node.

    `members` maps a node id to its peer address (`host:port`); it counts only on an empty data
    directory, must be the same on all nodes, and must contain `node`. Empty means a cluster of one.
    `join`: peer addresses of members, for a node that comes later: it asks them who they are.
    `peer_address`: where this node's peers reach it, if not at `peer_host` and `peer_port`.
    """

    node: int = 1
    data: str = "./data/node1"
    host: str = "127.0.0.1"
    port: int = CLIENT_PORT
    peer_host: str = "127.0.0.1"
    peer_port: int = PEER_PORT
    members: dict[int, str] = {}
    peer_address: str = ""
    join: str = ""
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
    disk_low_bytes: int = 256 << 20
    disk_full_bytes: int = 64 << 20
    link_threads: int = 1
    dialect_version: str = "1.19.0"

    def check(self) -> None:
        """Raise `InvalidInput` naming the first setting that breaks its rule.

        `field` is the setting; a rule has the names of other settings in backticks, so that
        the command line can put there what its user knows them by.
        """
        for name, least, most in _RANGES:
            if not least <= getattr(self, name) <= most:
                raise InvalidInput(name, f"must be {least} to {most}")
        for name in _NEVER_EMPTY:
            if not getattr(self, name).strip():
                raise InvalidInput(name, "must not be empty")
        self._check_forms()
        for lower, upper in _ASCENDING:
            if not getattr(self, lower) < getattr(self, upper):
                figures = f"{getattr(self, lower)} and {getattr(self, upper)}"
                raise InvalidInput(lower, f"must be below `{upper}`; they are {figures}")
        if 0 < self.disk_low_bytes <= self.disk_full_bytes:
            figures = f"{self.disk_full_bytes} and {self.disk_low_bytes}"
            raise InvalidInput(
                "disk_full_bytes", f"must be below `disk_low_bytes`; they are {figures}"
            )
        self._check_addresses()

    def _check_forms(self) -> None:
        if "\0" in self.data:
            raise InvalidInput("data", "must not contain a zero byte")
        if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", self.dialect_version):
            raise InvalidInput("dialect_version", "must be three numbers, like 1.19.0")
        timeout_s = self.request_timeout_s
        if not (math.isfinite(timeout_s) and 0 < timeout_s <= REQUEST_TIMEOUT_S_MAX):
            most = f"{REQUEST_TIMEOUT_S_MAX:g}"
            raise InvalidInput("request_timeout_s", f"must be above 0 and at most {most}")

    def _check_addresses(self) -> None:
        if self.host not in _LOOPBACK and not self.api_key:
            raise InvalidInput("host", "needs an `api_key` to listen beyond loopback")
        if self.peer_host not in _LOOPBACK and not self.cluster_secret:
            raise InvalidInput("peer_host", "needs a `cluster_secret` to listen beyond loopback")
        if self.peer_address and not is_address(self.peer_address):
            raise InvalidInput("peer_address", f"must be host:port, not {self.peer_address!r}")
        listens = self.members or self.join
        if listens and self.port == self.peer_port != 0 and self.host == self.peer_host:
            raise InvalidInput("peer_port", f"must differ from `port`; both are {self.port}")
        if self.join:
            self._check_join()
        if self.members:
            self._check_members()

    def join_addresses(self) -> list[str]:
        """The members to ask, in order."""
        return [part.strip() for part in self.join.split(",") if part.strip()]

    def _check_join(self) -> None:
        if self.members:
            raise InvalidInput(
                "join",
                "does not go with `members`: a node that comes later asks the cluster who they are",
            )
        wrong = [one for one in self.join_addresses() if not is_address(one)]
        if wrong or not self.join_addresses():
            shown = repr(wrong[0] if wrong else self.join)
            raise InvalidInput("join", f"must be peer addresses of members, host:port, not {shown}")
        if self.peer_host in _EVERYWHERE and not self.peer_address:
            raise InvalidInput(
                "peer_address",
                f"must say where the other nodes reach this one, as `peer_host` is "
                f"{self.peer_host}: every address of this machine",
            )

    def _check_members(self) -> None:
        if self.node not in self.members:
            raise InvalidInput(
                "members", f"must contain this node, number {self.node}; or it came later: `join`"
            )
        seen: set[str] = set()
        for number, address in self.members.items():
            if not is_address(address):
                raise InvalidInput(
                    "members", f"the address of node {number} must be host:port, not {address!r}"
                )
            if address in seen:
                raise InvalidInput("members", f"two nodes have the address {address}")
            seen.add(address)
