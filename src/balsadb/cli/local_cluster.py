"""A cluster of node processes on this machine: what `balsadb cluster` and the demo start and stop.

Everything is in one folder:

    cluster.json        how many nodes, their ports, the cluster's secret (mode 0600)
    cluster.lock        held while a command changes the cluster
    node1.toml          the settings of node 1 (mode 0600)
    node1.pid           its process, while it runs
    node1.log           its output
    node1/              its data directory
    node1.*-set-aside   what `balsadb node rejoin` kept of it

A process counts as ours only if its command line names our settings file: a number that the
system gave to another process after a crash is not killed.
"""

import contextlib
import fcntl
import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from balsadb.cli import settings as node_settings
from balsadb.cli.first_start import MESSAGE, is_compiling
from balsadb.cli.plan import POLL_S, ClusterPlan, Wish, require_free
from balsadb.cli.rejoin import set_aside
from balsadb.cluster.settings import NodeSettings
from balsadb.errors import BalsaError, InvalidInput, NotReady, StorageError

READY_TIMEOUT_S = 120.0
"""For a start on a slow machine with a large log. What a first compilation takes comes on top."""
COMPILE_TIMEOUT_S = 1800.0
"""No machine compiles for so long: something else is wrong."""
STOP_TIMEOUT_S = 20.0
PATIENCE_S = 1.5
"""Seconds of waiting after which the user is told what takes so long."""
LOOK_AGAIN_S = 2.0
"""Seconds of waiting between two looks at whether nodes that are not ready are members at all."""
ANSWER_TIMEOUT_S = 1.0
"""Seconds within which a node that runs says so; who takes longer is asked only if all do."""
LOG_LINES_SHOWN = 15
LOG_BYTES_READ = 1 << 16
"""Of a node's log, from its end: it is read again and again while one waits."""


LOCK_NAME = "cluster.lock"
OWN_SETTINGS = (
    *("node", "data", "host", "port", "peer_host", "peer_port"),
    *("members", "cluster_secret"),
)
"""Settings that differ between the nodes of a local cluster, or that it chooses for them."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Processes that this one started, by number: they outlive the objects here, and only their parent
can collect what is left of them."""


def _collect_ended() -> None:
    """Take what the system keeps of ended children; no zombies stay."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            del _children[pid]


class NodeProcess:
    """One node of the cluster: its files, its process, its readiness. Numbered from 1."""

    def __init__(self, folder: Path, plan: ClusterPlan, number: int) -> None:
        self.number = number
        self.host = plan.host
        self.port, self.peer_port = plan.ports_of(number)
        self.data = folder / f"node{number}"
        self.config_file = folder / f"node{number}.toml"
        self.pid_file = folder / f"node{number}.pid"
        self.log_file = folder / f"node{number}.log"
        self._plan = plan
        self.sessions: list[int] = []
        """Of the processes started by this object: each has one to itself and its children."""

    @property
    def url(self) -> str:
        """Where clients reach the node."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The number of the running process, None if the node does not run."""
        _collect_ended()
        try:
            pid = int(self.pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if _runs(pid, self.config_file) else None

    def start(self) -> None:
        """Start the process; raises `AlreadyExists` if another program has one of the ports."""
        for port in (self.port, self.peer_port):
            require_free(self.number, self.host, port)
        _write_private(self.config_file, node_settings.to_toml(self._settings()))
        arguments = [
            sys.executable,
            "-m",
            "balsadb.cli",
            "serve",
            "--config",
            str(self.config_file),
        ]
        with self.log_file.open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 - our own interpreter and file names
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )
        _children[child.pid] = child
        self.sessions.append(child.pid)
        self.pid_file.write_text(f"{child.pid}\n", encoding="ascii")

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End the process with SIGKILL, and return when it is gone."""
        self.send(signal.SIGKILL)
        self.wait_gone(STOP_TIMEOUT_S)

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait until the process has ended; False if it has not within the time."""
        deadline = time.monotonic() + timeout_s
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        self.pid_file.unlink(missing_ok=True)
        return True

    def is_ready(self) -> bool:
        """Whether `/readyz` answers 200."""
        return self._status_of("/readyz", 2) == http.HTTPStatus.OK

    def answers(self) -> bool:
        """Whether the node answers at all, and soon: one that stands still does not."""
        return self.pid is not None and self._status_of("/livez", ANSWER_TIMEOUT_S) is not None

    def _status_of(self, path: str, timeout_s: float) -> int | None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def left_running(self) -> list[int]:
        """Processes of the sessions that this object started: the node, and children of it."""
        _collect_ended()
        return [pid for pid in _processes() if _session(pid) in self.sessions]

    def last_log_lines(self) -> str:
        """The end of the node's output, for an error message."""
        with contextlib.suppress(OSError), self.log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES_READ))
            lines = log.read().decode("utf-8", "replace").splitlines()
            return "\n".join(lines[-LOG_LINES_SHOWN:])
        return ""

    def _settings(self) -> NodeSettings:
        plan = self._plan
        members = {number: f"{self.host}:{port}" for number, port in enumerate(plan.peer_ports, 1)}
        others = [one for one in plan.numbers if one != self.number and one not in plan.gone]
        peers = [f"{self.host}:{plan.ports_of(one)[1]}" for one in others]
        joins = self.number not in members
        settings = NodeSettings(
            node=self.number,
            data=str(self.data),
            host=self.host,
            port=self.port,
            peer_host=self.host,
            peer_port=self.peer_port,
            members={} if joins else members,
            join=",".join(peers) if joins else "",
            cluster_secret=self._plan.secret,
        )
        settings.check()
        return settings


class LocalCluster:
    """The nodes of one folder."""

    def __init__(self, folder: Path, plan: ClusterPlan) -> None:
        self.folder = folder
        self.plan = plan
        self.all_nodes = [NodeProcess(folder, plan, number) for number in plan.numbers]
        """With those that were removed from the cluster."""
        self.nodes = [node for node in self.all_nodes if node.number not in plan.gone]

    @classmethod
    def create_or_open(cls, folder: Path, wanted: ClusterPlan | None) -> "LocalCluster":
        """The cluster in `folder`, made after `wanted` if there is none.

        None as plan means the one that is there, or the default of three nodes. Raises
        `InvalidInput` if another number of nodes is there.
        """
        folder = folder.absolute()
        stored = read_plan(folder)
        if stored is None:
            plan = wanted or Wish().plan()
            plan.check()
            folder.mkdir(parents=True, exist_ok=True)
            write_plan(folder, plan)
            return cls(folder, plan)
        Wish(None if wanted is None else wanted.nodes).check_same(stored, folder)
        stored.check()
        return cls(folder, stored)

    @classmethod
    def prepare(cls, folder: Path, wish: Wish, *, anew: bool) -> "LocalCluster":
        """The cluster that was asked for, not started yet; `anew`: the old one is deleted.

        All that can be refused is refused before anything is stopped, deleted or written:
        `InvalidInput` for the wish, `AlreadyExists` for a port that another program has.
        """
        folder = folder.absolute()
        # What every node would refuse: a `BALSADB_TICK_MS` of 0, for one.
        node_settings.load({}, _environment(), None)
        stored = read_plan(folder)
        if stored is not None and not anew:
            wish.check_same(stored, folder)
            stored.check()
            return cls(folder, stored)
        plan = wish.plan()
        ours: set[int] = set()
        if stored is not None:
            nodes = [node for node in cls(folder, stored).all_nodes if node.pid is not None]
            ours = {port for node in nodes for port in (node.port, node.peer_port)}
        plan.check_free(ours)
        if anew:
            reset(folder)
        return cls.create_or_open(folder, plan)

    @classmethod
    def open(cls, folder: Path) -> "LocalCluster":
        """The cluster in `folder`; `InvalidInput` if there is none."""
        stored = read_plan(folder.absolute())
        if stored is None:
            raise InvalidInput("--data", f"{folder} holds no cluster; start one first")
        return cls(folder.absolute(), stored)

    def start(self, on_event: Callable[[str], None] = lambda text: None) -> list[int]:
        """Start the nodes that do not run; returns their numbers. Does not wait."""
        started: list[int] = []
        for node in self.nodes:
            if node.pid is None:
                on_event(f"starting node {node.number} on {node.url}")
                node.start()
                started.append(node.number)
        return started

    def whom_to_ask(self, about: int | None = None) -> list[NodeProcess]:
        """The nodes that answer, or all if none does; the one that a question is about comes last.

        It may be the one in trouble: the others know why. One that stands still takes what it is
        sent and keeps silent until the time is up, when it is too late to ask another.
        """
        with ThreadPoolExecutor(len(self.nodes) or 1) as pool:
            answers = list(pool.map(NodeProcess.answers, self.nodes))
        found = [node for node, does in zip(self.nodes, answers, strict=True) if does]
        return sorted(found or self.nodes, key=lambda node: node.number == about)

    def wait_ready(
        self,
        timeout_s: float = READY_TIMEOUT_S,
        on_event: Callable[[str], None] = lambda text: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Return when every node is ready (see the function)."""
        wait_ready(self.nodes, timeout_s, on_event, on_wait)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> list[int]:
        """Ask every node to end, then make it; returns the numbers of those that ran."""
        running = [node for node in self.all_nodes if node.pid is not None]
        end(running, timeout_s)
        return [node.number for node in running]


def wait_ready(
    nodes: Sequence[NodeProcess],
    timeout_s: float = READY_TIMEOUT_S,
    on_event: Callable[[str], None] = lambda text: None,
    on_wait: Callable[[], None] = lambda: None,
) -> None:
    """Return when every node is ready; `NotReady` when one ended or the time is over.

    The time begins when no node compiles kernels (any more): how long that takes, says the machine.
    `on_wait` is called now and then while some are not; what it raises ends the waiting.
    """
    began = time.monotonic()
    deadline = began + timeout_s
    waiting = list(nodes)
    told = False
    looked = began
    while waiting:
        waiting = [node for node in waiting if not node.is_ready()]
        for node in waiting:
            # Asked only while it is not ready, so a dead one was not ready when it died.
            if node.pid is None:
                raise NotReady(f"node {node.number} ended:\n{node.last_log_lines()}")
        compiling = any(is_compiling(node.last_log_lines()) for node in waiting)
        if compiling and time.monotonic() < began + COMPILE_TIMEOUT_S:
            deadline = time.monotonic() + timeout_s
        if not told and compiling and time.monotonic() > began + PATIENCE_S:
            told = True
            on_event(MESSAGE)
        if waiting and time.monotonic() > deadline:
            numbers = ", ".join(str(node.number) for node in waiting)
            log = waiting[0].last_log_lines()
            raise NotReady(f"not ready after {timeout_s:.0f} s: node {numbers}\n{log}")
        if waiting and time.monotonic() > looked + LOOK_AGAIN_S:
            looked = time.monotonic()
            on_wait()
        time.sleep(POLL_S if waiting else 0)


def end(nodes: Sequence[NodeProcess], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Ask the nodes to end, then make them."""
    for node in nodes:
        node.send(signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    for node in nodes:
        if not node.wait_gone(max(0.0, deadline - time.monotonic())):
            node.kill()


@contextlib.contextmanager
def exclusive(folder: Path) -> Generator[None, None, None]:
    """Hold the folder's lock, so that two commands do not start the same node twice.

    Raises `InvalidInput` if the folder cannot be made, `NotReady` if another command has the lock,
    and `StorageError` for an operation on the folder's files that fails meanwhile.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_NAME).open("a")
    except OSError as error:
        raise _not_a_folder(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_in_place(file.fileno(), folder / LOCK_NAME):
                raise BlockingIOError  # a reset deleted it since: it would lock nobody out
        except BlockingIOError:
            raise NotReady(
                f"another command is changing this cluster ({folder}); "
                "wait for it to end, then repeat"
            ) from None
        try:
            yield
        except OSError as error:
            raise StorageError(f"{error.filename or folder}: {error.strerror}") from error


def reset(folder: Path) -> None:
    """Stop the folder's cluster and delete everything that it left there, and nothing else.

    The lock stays, as it is held. Raises `StorageError` for what cannot be deleted; the plan stays
    then, for another try.
    """
    stored = read_plan(folder.absolute())
    if stored is None:
        return
    cluster = LocalCluster(folder.absolute(), stored)
    cluster.stop()
    for node in cluster.all_nodes:
        delete(node, set_aside(node.data))
    _plan_file(folder.absolute()).unlink()


def delete(node: NodeProcess, asides: Sequence[Path] = ()) -> None:
    """Delete the data and the files of a node that does not run. StorageError."""
    try:
        for folder in (node.data, *asides):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)
        for file in (node.config_file, node.pid_file, node.log_file):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot delete {error.filename}: {error.strerror}") from error


def read_plan(folder: Path) -> ClusterPlan | None:
    """The plan in `cluster.json`, None if there is none; `InvalidInput` if it is damaged."""
    file = _plan_file(folder)
    try:
        plan = msgspec.json.decode(file.read_bytes(), type=ClusterPlan)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_a_folder(folder, error) from error
    except msgspec.DecodeError as error:
        raise InvalidInput(str(file), f"is damaged: {error}") from error
    if not plan.has_shape():
        raise InvalidInput(str(file), "is damaged: it has no two ports for each node")
    return plan


def write_plan(folder: Path, plan: ClusterPlan) -> None:
    """Keep the plan; it holds the secret."""
    _write_private(_plan_file(folder), msgspec.json.encode(plan).decode())


def exit_code(error: BalsaError) -> int:
    """What the command ends with: 2 wrong use, 3 the cluster cannot serve, 1 anything else."""
    if isinstance(error, InvalidInput):
        return 2
    return 3 if error.retryable else 1


def _environment() -> dict[str, str]:
    """This process's environment without what tells nodes apart: a `BALSADB_PORT` meant for one
    node must not become the port of all. Other settings (`BALSADB_TICK_MS`) reach every node."""
    own = {node_settings.BY_FIELD[field].variable for field in OWN_SETTINGS}
    return {name: value for name, value in os.environ.items() if name not in own}


def _is_in_place(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _not_a_folder(folder: Path, error: OSError) -> InvalidInput:
    return InvalidInput("--data", f"{folder} cannot be the cluster's folder: {error.strerror}")


def _plan_file(folder: Path) -> Path:
    return folder / "cluster.json"


def _write_private(path: Path, text: str) -> None:
    """Replace the file in one step; it may hold a secret, so only its owner may read it."""
    draft = path.with_suffix(path.suffix + ".new")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _processes() -> list[int]:
    """All processes of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _session(pid: int) -> int:
    """The session of a process that runs; 0 for none, and for a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    fields = status.rpartition(")")[2].split()  # state, parent, group, session
    return 0 if fields[0] == "Z" else int(fields[3])


def _runs(pid: int, config_file: Path) -> bool:
    """Whether process `pid` runs (is no zombie) and was started with that settings file."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    is_zombie = status.rpartition(")")[2].split()[0] == "Z"
    # A process on its way out has lost its command line, and still has its ports.
    is_ours = not command or os.fsencode(str(config_file)) in command.split(b"\0")
    return is_ours and not is_zombie
