"""A whole node: recover what the disk holds, put the parts together, start and stop them.

Order of a start: settings, kernels (compiled on the first start, loaded after that), data
directory, write-ahead log and checkpoint, driver, threads. Nothing answers before all of that is
done, and no distance is computed on the way.
"""

import asyncio
import logging
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from balsadb.cluster import joining
from balsadb.cluster.boot import Boot
from balsadb.cluster.driver import Driver
from balsadb.cluster.executors import Parts
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.performers import JobRunner
from balsadb.cluster.replicas import ObservedDatabase, ReplicaDigests
from balsadb.cluster.service import ClusterService
from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.shell import Body, Shell
from balsadb.cluster.workers import Fatal, Pulse
from balsadb.columns import ColumnSet
from balsadb.database import Database
from balsadb.database.linking import ONE_THREAD, Spread
from balsadb.errors import InvalidInput
from balsadb.index import compilations, compile_all
from balsadb.storage import DataDir, RealFiles, WalOptions
from balsadb.types import NodeId

_log = logging.getLogger("balsadb.node")


class Node:
    """One node of a cluster (or a cluster of one), ready to `start`."""

    def __init__(
        self,
        service: ClusterService,
        shell: Shell,
        data_dir: DataDir,
        digests: ReplicaDigests,
        pulse: Pulse,
    ) -> None:
        self.service = service
        self.shell = shell
        self._data_dir = data_dir
        self._digests = digests
        self._pulse = pulse

    @classmethod
    def open(cls, settings: NodeSettings, fatal: Fatal) -> "Node":
        """Recover a node from its data directory.

        `fatal` is called, from any thread, with an error after which the node must not go on.
        Raises `InvalidInput` for settings, and the `StorageError` tree for the directory.
        """
        settings.check()
        load_kernels()
        node = NodeId(settings.node)
        files = RealFiles(settings.data)
        origin = joining.origin(settings, files)
        cluster = origin.cluster
        wal_options = WalOptions(segment_bytes=settings.wal_segment_bytes)
        data_dir = DataDir.open(files, node, cluster, lambda: secrets.randbits(62) + 1, wal_options)
        digests = ReplicaDigests(fatal)

        spread = _spread(settings.link_threads)

        def machine(columns: ColumnSet | None) -> ObservedDatabase:
            return ObservedDatabase(Database(columns), digests, spread)

        started = time.monotonic()
        header = data_dir.wal_header
        # A directory with an identity has a log: the first start began it before.
        first = sorted(origin.first)
        boot = Boot.recover(files, header, first, machine, wal_options, begun=True)
        _log.info(
            "recovered to log index %d, %d entries of log after it, in %.0f ms",
            boot.raft_state.applied,
            len(boot.raft_state.entries),
            1e3 * (time.monotonic() - started),
        )
        options = DriverOptions(
            node=node,
            cluster=cluster,
            disk=data_dir.disk_id,
            seed=secrets.randbits(48),
            election_ticks=settings.election_ticks,
            heartbeat_ticks=settings.heartbeat_ticks,
            checkpoint_log_bytes=settings.checkpoint_log_bytes,
            log_tail_bytes=settings.log_tail_bytes,
            log_bytes_max=settings.log_bytes_max,
            disk_low_bytes=settings.disk_low_bytes,
            disk_full_bytes=settings.disk_full_bytes if settings.disk_low_bytes else 0,
            place=files.root,
        )
        told = {**origin.first, **origin.addresses}
        peers = {peer: address for peer, address in told.items() if peer != node}
        logged = boot.known.addresses.get(node) or origin.first.get(node)
        boot.store.keep_free_bytes = options.disk_full_bytes
        pulse = Pulse()
        service = ClusterService(settings, pulse)
        body = Body(
            driver=Driver(options, boot),
            parts=Parts(
                boot.wal, boot.applier, JobRunner(boot.store, boot.applier), files.free_bytes
            ),
            cluster=cluster,
            peers=peers,
            address=settings.peer_address or logged or joining.peer_address(settings),
            peer_socket=_peer_socket(settings) if settings.members or origin.addresses else None,
            take_in=service.take_in,
        )
        shell = Shell(settings, body, service.handle_call, fatal)
        service.bind(shell, boot.applier, digests)
        service.receive_with(origin)
        return cls(service, shell, data_dir, digests, pulse)

    def start(self) -> None:
        """Start all threads; call from the loop that the service is attached to."""
        self._pulse.start()
        self._digests.start()
        self.shell.start()

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether the node became ready within the time."""
        deadline = time.monotonic() + timeout_s
        while not self.service.ready()[0]:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.005)
        return True

    def stop(self) -> None:
        """Stop all threads and give the data directory free. Blocks; not for an event loop."""
        self.service.begin_stop()
        self.shell.stop()
        self._digests.stop()
        self._pulse.stop()
        self.service.close()
        self._data_dir.close()


def load_kernels() -> None:
    """Compile or load every kernel a node may need; says so when it compiles."""
    before = compilations()
    started = time.monotonic()
    _log.info("loading kernels (the first start on a machine compiles them: up to half a minute)")
    compile_all()
    compiled = compilations() - before
    _log.info(
        "kernels ready in %.1f s, %s",
        time.monotonic() - started,
        f"{compiled} compiled" if compiled else "all from the cache",
    )


def _spread(threads: int) -> Spread:
    """One slice of a plan for each thread; the edit is the same for any number of them."""
    if threads == 1:
        return ONE_THREAD
    return Spread(threads, ThreadPoolExecutor(threads, thread_name_prefix="link").map)


def _peer_socket(settings: NodeSettings) -> socket.socket:
    host, port = settings.peer_host, settings.peer_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: an event loop sets TCP_NODELAY only where it is, and without that an
    # answer in two writes waits 40 ms for the peer's delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InvalidInput(
            "peer_port", f"cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    return listening
