"""One node as a process: open, listen, serve until told to stop.

SIGTERM and SIGINT stop in order: `/readyz` turns false, leadership is handed over, open requests
are answered, then the node closes. A second signal ends the process at once.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
from types import FrameType

import uvicorn
import uvloop

from balsadb.cluster.http_limits import BoundedHttpProtocol
from balsadb.cluster.node import Node
from balsadb.cluster.settings import NodeSettings
from balsadb.errors import BalsaError, EmptiedDisk, InvalidInput, StorageError
from balsadb.server.app import create_app

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_STORAGE = 4
EXIT_FATAL = 70
SWITCH_INTERVAL_S = 0.001
"""How long a thread may keep the interpreter lock when another wants it (the default is 5 ms: too
long beside a heartbeat)."""
GRACE_S = 5

_log = logging.getLogger("balsadb")


class _Server(uvicorn.Server):
    """Uvicorn, with leadership handed over before it stops listening."""

    def __init__(self, config: uvicorn.Config, node: Node) -> None:
        super().__init__(config)
        self._node = node
        self._leaving: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: leave in order. Second: at once."""
        del frame
        if self._leaving is not None:
            self.force_exit = True
            self.should_exit = True
            return
        _log.info("stopping (signal %d)", sig)
        self._loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        if self._leaving is None:
            self._leaving = self._loop.create_task(self._hand_over(), name="leave")

    async def _hand_over(self) -> None:
        self._node.service.begin_stop()
        await asyncio.to_thread(self._node.shell.transfer_leadership)
        self.should_exit = True


def fatal(error: BaseException) -> None:
    """End the process: a node whose disk, log or state machine failed must not go on."""
    _log.critical("fatal: %s", error, exc_info=error)
    sys.stderr.flush()
    os._exit(EXIT_STORAGE if isinstance(error, EmptiedDisk) else EXIT_FATAL)


def run(settings: NodeSettings) -> int:
    """Serve until a signal; the exit code of the process."""
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s node{settings.node} %(levelname)s %(name)s: %(message)s",
    )
    # One line for each request between nodes would drown everything else.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        settings.check()
        listening = bind(settings.host, settings.port, "port")
        node = Node.open(settings, fatal)
    except StorageError as error:
        _log.error("%s", error.message)
        return EXIT_STORAGE
    except BalsaError as error:
        _log.error("%s", error.message)
        return EXIT_USAGE
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    uvloop.run(_serve(settings, node, listening))
    return EXIT_OK


def bind(host: str, port: int, field: str) -> socket.socket:
    """A listening TCP socket; `InvalidInput` names `field` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: an event loop sets TCP_NODELAY only where it is, and without that an
    # answer in two writes waits 40 ms for the peer's delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise InvalidInput(field, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


async def _serve(settings: NodeSettings, node: Node, listening: socket.socket) -> None:
    node.service.attach(asyncio.get_running_loop())
    app = create_app(node.service, settings)
    config = uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config, node)
    node.start()
    address = listening.getsockname()
    _log.info("REST API on http://%s:%d", address[0], address[1])
    try:
        await server.serve(sockets=[listening])
    finally:
        await asyncio.to_thread(node.stop)
        _log.info("stopped")


__all__ = ["EXIT_FATAL", "EXIT_OK", "EXIT_STORAGE", "EXIT_USAGE", "bind", "fatal", "run"]
