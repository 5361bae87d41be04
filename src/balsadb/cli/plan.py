"""What a local cluster must be: how many nodes, on which ports. Checked before anything is touched.

`Wish` is what the user typed, `ClusterPlan` what follows from it and is stored: a wish is checked
as it becomes a plan, so a plan that cannot work is never written down, and nothing is stopped or
deleted for it.
"""

import secrets
import socket
import time
from collections.abc import Container
from typing import NamedTuple

import msgspec

from balsadb.cluster.settings import CLIENT_PORT, NODE_MAX, PEER_PORT, PORT_STEP
from balsadb.errors import AlreadyExists, InvalidInput

NODES_DEFAULT = 3
NODES_MAX = 9
PORT_MAX = 65535
PORT_PATIENCE_S = 2.0
FREE_PORTS = range(15_000, 32_000)
POLL_S = 0.02


class ClusterPlan(msgspec.Struct, frozen=True):
    """What `cluster.json` holds: everything that must stay the same between two starts."""

    nodes: int
    host: str = "127.0.0.1"
    ports: tuple[int, ...] = ()
    peer_ports: tuple[int, ...] = ()
    secret: str = ""
    newcomers: dict[int, tuple[int, int]] = {}
    """Nodes of this folder that joined later: number -> client port, peer port."""
    moved: dict[int, int] = {}
    """Nodes whose peer port is another one by now."""
    gone: tuple[int, ...] = ()
    """Nodes of this folder that were removed from the cluster."""

    @property
    def numbers(self) -> list[int]:
        """Every node that this folder ever held."""
        return [*range(1, self.nodes + 1), *sorted(self.newcomers)]

    def ports_of(self, number: int) -> tuple[int, int]:
        """The client port and the peer port of a node, now."""
        if number in self.newcomers:
            port, peer_port = self.newcomers[number]
        else:
            port, peer_port = self.ports[number - 1], self.peer_ports[number - 1]
        return port, self.moved.get(number, peer_port)

    def client_of(self, port: int) -> int | None:
        """The node whose clients come to that port; None if it is no node's."""
        there = (one for one in self.numbers if one not in self.gone)
        return next((one for one in there if self.ports_of(one)[0] == port), None)

    def check_new(self, number: int) -> None:
        """`InvalidInput` if the number is none, or one that the folder holds or held."""
        if not 1 <= number <= NODE_MAX:
            raise InvalidInput("number", f"must be 1 to {NODE_MAX}, not {number}")
        if number in self.numbers:
            raise InvalidInput(
                "number",
                f"node {number} is or was a node of this folder, and a number is never used again; "
                f"{max(self.numbers) + 1} is free",
            )

    def grown(self, number: int) -> "ClusterPlan":
        """A plan with one node more: on the ports of its number if they are free, else on others.

        Raises `InvalidInput` if it can have none with that number.
        """
        self.check_new(number)
        steps = PORT_STEP * (number - 1)
        ports = self.ports[0] + steps, self.peer_ports[0] + steps
        ours = {port for one in self.numbers for port in self.ports_of(one)}
        if any(port in ours or is_taken(self.host, port) for port in ports):
            other = ClusterPlan.on_free_ports(1)
            ports = other.ports[0], other.peer_ports[0]
        return msgspec.structs.replace(self, newcomers={**self.newcomers, number: ports})

    @classmethod
    def numbered(
        cls, nodes: int, port: int = CLIENT_PORT, peer_port: int = PEER_PORT
    ) -> "ClusterPlan":
        """A plan with the documented ports: the first, and 10 more for each node.

        Raises `InvalidInput` if there are too few or too many nodes, or a port is none or is
        needed twice.
        """
        _check_count(nodes)
        plan = cls(
            nodes,
            ports=_stepped(port, nodes),
            peer_ports=_stepped(peer_port, nodes),
            secret=secrets.token_hex(16),
        )
        plan.check()
        return plan

    @classmethod
    def on_free_ports(cls, nodes: int) -> "ClusterPlan":
        """A plan on ports that nothing listens on now.

        They lie below the range from which outgoing connections get theirs: a port of that range
        could be gone when a killed node comes back for it.
        """
        _check_count(nodes)
        ports: list[int] = []
        while len(ports) < 2 * nodes:
            port = FREE_PORTS.start + secrets.randbelow(len(FREE_PORTS))
            if port not in ports and not is_taken("127.0.0.1", port):
                ports.append(port)
        secret = secrets.token_hex(16)
        return cls(
            nodes, ports=tuple(ports[:nodes]), peer_ports=tuple(ports[nodes:]), secret=secret
        )

    def has_shape(self) -> bool:
        """Whether each node has its two ports; only a damaged file has another shape."""
        return self.nodes == len(self.ports) == len(self.peer_ports) > 0

    def check(self) -> None:
        """Raise `InvalidInput` naming the flag if the nodes cannot have these ports."""
        _check_count(self.nodes)
        taken: dict[int, str] = {}
        for flag, ports in (("--port", self.ports), ("--peer-port", self.peer_ports)):
            for number, port in enumerate(ports, 1):
                if not 1 <= port <= PORT_MAX:
                    raise InvalidInput(
                        flag,
                        f"node {number} would get port {port}; "
                        f"ports are 1 to {PORT_MAX}, {PORT_STEP} more a node",
                    )
                if port in taken:
                    raise InvalidInput(
                        flag,
                        f"node {number} would get port {port}, which {taken[port]} has; client "
                        f"ports and peer ports are {PORT_STEP} apart and must not meet",
                    )
                taken[port] = f"node {number} ({flag})"

    def check_free(self, ours: Container[int] = ()) -> None:
        """Raise `AlreadyExists` if another program has one of the ports that are not `ours`."""
        for number, pair in enumerate(zip(self.ports, self.peer_ports, strict=True), 1):
            for port in pair:
                if port not in ours:
                    require_free(number, self.host, port)


class Wish(NamedTuple):
    """What the user asked for; None: not said."""

    nodes: int | None = None
    port: int | None = None
    peer_port: int | None = None
    free_ports: bool = False

    def plan(self) -> ClusterPlan:
        """The plan for a new cluster; `InvalidInput` if it cannot work."""
        nodes = NODES_DEFAULT if self.nodes is None else self.nodes
        if not self.free_ports:
            port = CLIENT_PORT if self.port is None else self.port
            return ClusterPlan.numbered(
                nodes, port, PEER_PORT if self.peer_port is None else self.peer_port
            )
        for flag, port in (("--port", self.port), ("--peer-port", self.peer_port)):
            if port is not None:
                raise InvalidInput(flag, "--free-ports chooses the ports; give one of the two")
        return ClusterPlan.on_free_ports(nodes)

    def check_same(self, stored: ClusterPlan, folder: object) -> None:
        """Raise `InvalidInput` if the cluster in `folder` is another than was asked for."""
        advice = "use --reset to delete it and start"
        if self.nodes not in (None, stored.nodes):
            raise InvalidInput(
                "nodes",
                f"must be {stored.nodes}: {folder} holds a cluster of {stored.nodes} nodes; "
                f"{advice} {self.nodes}",
            )
        for flag, first, ports in (
            ("--port", self.port, stored.ports),
            ("--peer-port", self.peer_port, stored.peer_ports),
        ):
            if first is not None and _stepped(first, stored.nodes) != ports:
                shown = ", ".join(str(port) for port in ports)
                raise InvalidInput(
                    flag, f"{folder} holds a cluster on the ports {shown}; {advice} on {first}"
                )


def require_free(
    number: int, host: str, port: int, other: str = "another --port / --peer-port"
) -> None:
    """Return when node `number` can have the port; `AlreadyExists` if another program keeps it.

    The threads of a process that was killed give up its sockets a moment after it is gone.
    """
    deadline = time.monotonic() + PORT_PATIENCE_S
    while is_taken(host, port):
        if time.monotonic() > deadline:
            raise AlreadyExists(
                f"node {number} cannot start: a listener on {host}:{port} "
                f"already exists; stop it or choose {other}"
            )
        time.sleep(POLL_S)


def is_taken(host: str, port: int) -> bool:
    """Whether the port cannot be listened on now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError):
            return True
        return False


def _check_count(nodes: int) -> None:
    if not 1 <= nodes <= NODES_MAX:
        raise InvalidInput("nodes", f"must be 1 to {NODES_MAX}")


def _stepped(first: int, nodes: int) -> tuple[int, ...]:
    return tuple(first + step for step in range(0, nodes * PORT_STEP, PORT_STEP))
