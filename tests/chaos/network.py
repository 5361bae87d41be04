"""A network of our own: every node in a network namespace, all on one bridge.

The test's process stays outside and reaches each node through the bridge. Needs root and iproute2,
no firewall: what one node sends to another is lost when the sender is told a hardware address that
nobody has, so a cut has a direction, is silent, and leaves every other pair alone.

Names say whose they are: `bc`, the number of the process that made them, then what it is. What a
process left behind that is gone is removed before anything new is made.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Generator, Iterable
from pathlib import Path

PREFIX = "bc"
_NAME = re.compile(rf"\b{PREFIX}(\d+)(?:b|n\d+)\b")
_NOBODY = "02:bc:00:00:00:ff"
"""A hardware address that no node has: frames to it are dropped by whoever they reach."""
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why there can be no such network here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2 (the command ip)"
    name = f"{PREFIX}{os.getpid()}n0"
    try:
        for command in (
            ["netns", "add", name],
            ["link", "add", name, "type", "bridge"],
            ["link", "del", name],
            ["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name],
        ):
            _ip(*command)
    except subprocess.CalledProcessError as error:
        return f"no namespaces, bridges or veth here: {error.stderr.strip()}"
    finally:
        _forget([name])
    return ""


class Network:
    """The wires between nodes 1 to `nodes`. Everything is whole at first."""

    def __init__(self, nodes: int) -> None:
        self._owner = f"{PREFIX}{os.getpid()}"
        self._bridge = f"{self._owner}b"
        self._subnet = _free_subnet()
        self.numbers = range(1, nodes + 1)

    def address(self, node: int) -> str:
        """Where everybody reaches the node."""
        return f"{self._subnet}.{10 + node}"

    @contextlib.contextmanager
    def up(self) -> Generator["Network"]:
        """Made, and gone afterwards."""
        remove_leftovers()
        try:
            self._make()
            yield self
        finally:
            _forget([*map(self._name, self.numbers), self._bridge])

    @contextlib.contextmanager
    def inside(self, node: int) -> Generator[None]:
        """The calling thread, and what it starts, in the node's namespace."""
        with (
            Path("/proc/thread-self/ns/net").open() as home,
            Path(f"/run/netns/{self._name(node)}").open() as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def cut(self, source: int, target: int) -> None:
        """What `source` sends to `target` is lost from now on; not the other way round."""
        self._tell(source, target, _NOBODY)

    def cut_both(self, one: int, others: Iterable[int]) -> None:
        """No packet between `one` and any of the others."""
        for other in others:
            self.cut(one, other)
            self.cut(other, one)

    def heal(self) -> None:
        """Every pair sees each other again."""
        for source in self.numbers:
            for target in self.numbers:
                if source != target:
                    self._tell(source, target, _hardware(target))

    def unplug(self, node: int) -> None:
        """Pull the node's cable: nobody reaches it, clients neither."""
        _ip("link", "set", self._name(node), "down")

    def plug(self, node: int) -> None:
        """Put the cable back."""
        _ip("link", "set", self._name(node), "up")

    def worsen(self, node: int, *words: str) -> bool:
        """Delay, lose or reorder what the node sends, in the words of tc-netem(8); without words as
        before. False: this kernel cannot."""
        action = ["replace", "dev", "eth0", "root", "netem", *words]
        if not words:
            action = ["del", "dev", "eth0", "root"]
        command = ["tc", "-n", self._name(node), "qdisc", *action]
        return shutil.which("tc") is not None and _quietly(command)

    def _name(self, node: int) -> str:
        """Of the node's namespace, and of the near end of its cable."""
        return f"{self._owner}n{node}"

    def _make(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self._subnet}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for node in self.numbers:
            name = self._name(node)
            _ip("netns", "add", name)
            far = ["name", "eth0", "address", _hardware(node), "netns", name]
            _ip("link", "add", name, "type", "veth", "peer", *far)
            _ip("link", "set", name, "master", self._bridge, "up")
            _ip("-n", name, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        self.heal()

    def _tell(self, source: int, target: int, hardware: str) -> None:
        """What `source` takes for the hardware address of `target`; it asks nobody else."""
        entry = [self.address(target), "lladdr", hardware, "nud", "permanent", "dev", "eth0"]
        _ip("-n", self._name(source), "neigh", "replace", *entry)


def remove_leftovers() -> None:
    """Remove the namespaces and bridges of processes that are gone, and end what runs in them."""
    shown = _ip("netns", "list") + _ip("-o", "link", "show")
    names = {found[0] for found in _NAME.finditer(shown) if not _lives(int(found[1]))}
    _forget(sorted(names))


def _lives(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def _forget(names: Iterable[str]) -> None:
    for name in names:
        if Path(f"/run/netns/{name}").exists():
            for process in _ip("netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            _quietly(["ip", "netns", "del", name])
        # The near end of a cable goes with its far end, though not at once.
        _quietly(["ip", "link", "del", name])


def _free_subnet() -> str:
    """The first three numbers of addresses that no interface of this machine has."""
    taken = _ip("-o", "-4", "addr", "show") + _ip("route", "show")
    start = os.getpid()
    for number in range(start, start + 1000):
        subnet = f"10.{100 + number // 250 % 100}.{1 + number % 250}"
        if f"{subnet}." not in taken:
            return subnet
    raise AssertionError("all subnets are taken")


def _hardware(node: int) -> str:
    return f"02:bc:00:00:00:{node:02x}"


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(*words: str) -> str:
    command = ["ip", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _quietly(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
