"""How a node that comes later finds its cluster: it asks a member who they are.

The question goes to the member's peer port with the cluster's secret. Its answer, the *welcome*,
comes only after the cluster has taken the node in as a learner (`balsadb.cluster.reception`), and
says what the node cannot know by itself: the cluster's identity, its first members (the log begins
with them) and where all members are now. It is kept in the data directory, as the file JOINED,
before anything else is: so a directory belongs to a cluster only once that cluster has said yes,
and a node that was taken in starts again without asking anybody.
"""

import logging
import time
import zlib
from collections.abc import Callable

import httpx2
import msgspec

from balsadb.cluster.settings import NodeSettings
from balsadb.cluster.wire import HEADER_SECRET
from balsadb.errors import REJOIN, Corruption, ForeignDataDir, InvalidInput
from balsadb.storage import Files, cluster_id
from balsadb.types import ClusterId, NodeId

JOIN_PATH = "/join"
JOINED_NAME = "JOINED"
PAUSE_S = 0.5
"""Between two rounds of questions while no member answers."""
COMPLAINT_PAUSE_S = 10.0
"""While nobody answers, the log says so this often."""
TIMEOUT_S = 15.0
"""Longer than a member may take to have the node taken in (`reception.TAKE_IN_TIMEOUT_S`)."""
CONNECT_TIMEOUT_S = 2.0

_UNFINISHED_NAME = JOINED_NAME + ".new"
_FILE_BYTES_MAX = 1 << 20
_IDENTITY_NAMES = ("IDENTITY", "IDENTITY.new")

_log = logging.getLogger("balsadb.join")


class JoinRequest(msgspec.Struct, frozen=True):
    """The question: take this node in; its peers reach it at `address`."""

    node: NodeId
    address: str
    name: str = ""
    """The cluster's name, if the one who asks was given one: it must be right then."""


class Welcome(msgspec.Struct, frozen=True):
    """The answer: which cluster it is, who its first members were, and where all members are."""

    cluster: ClusterId
    name: str
    first: dict[NodeId, str]
    addresses: dict[NodeId, str] = {}


class Refusal(msgspec.Struct, frozen=True):
    """Why a stream or a question is not accepted: `status` as in HTTP, the field, its rule."""

    status: int
    field: str
    rule: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of an answer that is a refusal."""

    error: Refusal


class _Sealed(msgspec.Struct, frozen=True):
    """The file: a welcome and its checksum."""

    welcome: msgspec.Raw
    crc32: int


def origin(settings: NodeSettings, files: Files) -> Welcome:
    """Which cluster this node belongs to and who its first members were: as it was told when it
    joined, or as a member tells now (this waits for one), or by its settings.

    InvalidInput when it is not taken in, ForeignDataDir if the directory is in other use.
    """
    told = read(files)
    if told is None and settings.join:
        if any(map(files.exists, _IDENTITY_NAMES)):
            raise ForeignDataDir(
                f"the data directory {settings.data} is that of a node that did not join: start "
                "that node with the settings of its first start, or give the new node an empty "
                "directory (--data)"
            )
        told = ask(settings)
        write(files, told)
    if told is not None and not settings.members:
        return told
    return by_settings(settings)


def by_settings(settings: NodeSettings) -> Welcome:
    """The cluster that the settings name: of the first members, or of this node alone."""
    members = {NodeId(node): address for node, address in settings.members.items()}
    first = members or {NodeId(settings.node): peer_address(settings)}
    return Welcome(cluster_id(settings.cluster_name, first), settings.cluster_name, first)


def peer_address(settings: NodeSettings) -> str:
    """Where its peers reach a node, if neither the log nor the first members say."""
    host = settings.peer_host
    shown = f"[{host}]" if ":" in host else host
    return settings.peer_address or f"{shown}:{settings.peer_port}"


# --- the file ------------------------------------------------------------------------------------


def read(files: Files) -> Welcome | None:
    """What this directory's node was told when it joined; None if it did not. Corruption."""
    try:
        file = files.open(JOINED_NAME)
    except FileNotFoundError:
        return None
    try:
        data = file.pread(_FILE_BYTES_MAX, 0)
    finally:
        file.close()
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if zlib.crc32(sealed.welcome) == sealed.crc32:
            return msgspec.json.decode(sealed.welcome, type=Welcome)
        why = "the checksum does not match"
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        why = f"not readable ({error})"
    raise Corruption(f"{JOINED_NAME}: {why}. Restore the file, or join as a new node: {REJOIN}")


def write(files: Files, welcome: Welcome) -> None:
    """Keep what was told; durable and whole when this returns."""
    body = msgspec.json.encode(welcome)
    file = files.open(_UNFINISHED_NAME, create=True)
    try:
        file.truncate(0)
        file.pwrite(msgspec.json.encode(_Sealed(msgspec.Raw(body), zlib.crc32(body))), 0)
        file.sync()
    finally:
        file.close()
    files.rename(_UNFINISHED_NAME, JOINED_NAME)
    files.sync_dir("")


# --- the question --------------------------------------------------------------------------------


_ASKED_BY = {"id": "--node", "address": "--peer-address"}
"""Fields of a question to join, and the options that they come from."""


def ask(settings: NodeSettings, sleep: Callable[[float], None] = time.sleep) -> Welcome:
    """Ask the members of `join`, in turn and again, until one answers.

    Blocks while none is reached, or the cluster has no leader; says so in the log. InvalidInput
    when one refuses for good: nothing is kept then.
    """
    given = settings.cluster_name
    name = "" if given == NodeSettings().cluster_name else given
    request = JoinRequest(NodeId(settings.node), peer_address(settings), name)
    targets = settings.join_addresses()
    waited_s = 0.0
    with httpx2.Client(
        headers={HEADER_SECRET: settings.cluster_secret},
        timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        trust_env=False,
        verify=False,  # plain HTTP, as between all nodes: this only skips loading certificates
    ) as client:
        while True:
            reasons: list[str] = []
            for target in targets:
                found = _ask_one(client, target, request)
                if isinstance(found, Welcome):
                    _log.info("node %d was taken in by the cluster of %s", request.node, target)
                    return found
                reasons.append(found)
            if waited_s % COMPLAINT_PAUSE_S == 0:
                _log.warning(
                    "no member takes this node in yet: %s. Trying again; --join may name several "
                    "members (host:port,host:port), and any one that runs will do",
                    "; ".join(reasons),
                )
            waited_s += PAUSE_S
            sleep(PAUSE_S)


def _ask_one(client: httpx2.Client, target: str, request: JoinRequest) -> Welcome | str:
    """The welcome, or why there is none yet. InvalidInput if there will be none."""
    try:
        answer = client.post(f"http://{target}{JOIN_PATH}", content=msgspec.json.encode(request))
    except httpx2.HTTPError as error:
        return f"{target} does not answer ({error or type(error).__name__})"
    try:
        if answer.status_code == httpx2.codes.OK:
            return msgspec.json.decode(answer.content, type=Welcome)
        refusal = msgspec.json.decode(answer.content, type=ErrorBody).error
    except msgspec.DecodeError:
        raise InvalidInput(
            "--join",
            f"{target} is not the peer port of a node that new nodes can join at (it answered "
            f"{answer.status_code}). Name a peer address, as `balsadb cluster members` shows "
            "them; the port for clients is another one",
        ) from None
    if refusal.status == httpx2.codes.SERVICE_UNAVAILABLE:
        return f"{target} says: {refusal.rule}"
    if refusal.status == httpx2.codes.UNAUTHORIZED:
        raise InvalidInput(
            "--cluster-secret",
            f"{target} belongs to a cluster with another secret. Give this node the secret of the "
            "cluster that it is to join, or name a member of the right cluster (--join)",
        )
    option = _ASKED_BY.get(refusal.field, "--join")
    raise InvalidInput(option, f"{target} does not take this node in: {refusal.rule}")
