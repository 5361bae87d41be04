"""Questions between nodes, over the forward lane: a call goes out on ours, its reply comes back on
the peer's.

A call whose answer does not come in time is *unknown*, never repeated here: the caller above knows
whether repeating is safe.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from balsadb.cluster.wire import FORWARD
from balsadb.errors import BalsaError, MalformedBody, NotLeader, OutcomeUnknown
from balsadb.types import NodeId

CALLS_MAX = 1024
"""Calls waiting for an answer, and calls being answered, at most."""
LAST_ANSWERS_S = 0.5
"""How long a leader that was replaced may still answer what it was asked before."""

KIND_HTTP = "http"
KIND_DIGESTS = "digests"
KIND_ADD = "add"


class RawRequest(msgspec.Struct, array_like=True, frozen=True):
    """A request of the REST API as it arrived, to be run on another node."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class RawResponse(msgspec.Struct, array_like=True, frozen=True):
    """The answer to a `RawRequest`, to be passed on as it is."""

    status: int
    headers: dict[str, str]
    body: bytes


class Call(msgspec.Struct, array_like=True, frozen=True, tag="call"):
    """A question: `kind` says how `payload` is to be read."""

    id: int
    kind: str
    payload: bytes


class Reply(msgspec.Struct, array_like=True, frozen=True, tag="reply"):
    """The answer to the call with that id; `error` is empty or says why there is none."""

    id: int
    error: str
    payload: bytes


Handler = Callable[[str, bytes], Awaitable[bytes]]

_decoder = msgspec.msgpack.Decoder(Call | Reply)
_encoder = msgspec.msgpack.Encoder()


def decode_call(payload: bytes) -> Call | Reply:
    """A frame of the forward lane. MalformedBody if it is neither a call nor a reply."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedBody("frame", f"is not a call or a reply: {error}") from error


class Calls:
    """Both ends of the forward lane on one node; lives on the shell's event loop."""

    def __init__(self, send: Callable[[str, NodeId, bytes], bool], handler: Handler) -> None:
        self._send = send
        self._handler = handler
        self._waiting: dict[int, tuple[NodeId, asyncio.Future[bytes]]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)

    async def call(self, target: NodeId, kind: str, payload: bytes, timeout_s: float) -> bytes:
        """Ask `target`; raises `NotLeader` when it surely did not get the question and
        `OutcomeUnknown` when it may have."""
        if len(self._waiting) >= CALLS_MAX:
            raise NotLeader(target, "too many forwarded requests are waiting on this node")
        number = next(self._ids)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (target, future)
        try:
            if not self._send(FORWARD, target, _encoder.encode(Call(number, kind, payload))):
                raise NotLeader(target, f"node {target} cannot be reached from this node")
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise OutcomeUnknown(
                f"node {target} did not answer a forwarded request within {timeout_s:g} s"
            ) from None
        finally:
            self._waiting.pop(number, None)

    def receive(self, source: NodeId, payload: bytes) -> None:
        """Take a frame of the forward lane. MalformedBody if it cannot be read."""
        message = decode_call(payload)
        if isinstance(message, Reply):
            waiting = self._waiting.get(message.id)
            if waiting is None or waiting[0] != source or waiting[1].done():
                return
            if message.error:
                waiting[1].set_exception(OutcomeUnknown(message.error))
            else:
                waiting[1].set_result(message.payload)
            return
        if len(self._answering) >= CALLS_MAX:
            self._reply(source, Reply(message.id, "the node is overloaded", b""))
            return
        task = asyncio.get_running_loop().create_task(self._answer(source, message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def peer_down(self, peer: NodeId) -> None:
        """The peer's process is gone: what it was asked stays unknown."""
        for target, future in list(self._waiting.values()):
            if target == peer and not future.done():
                future.set_exception(
                    OutcomeUnknown(
                        f"node {peer} went away while it held a forwarded request: it may or may "
                        "not have been done. An election follows, or the quorum is lost"
                    )
                )

    def replaced(self, leader: NodeId) -> None:
        """Another node leads now. One that handed over answers in a moment what it was asked; one
        that stands still or is cut off may never, and whoever waits could long be served by its
        successor."""
        asked = [number for number, (target, _) in self._waiting.items() if target == leader]
        if asked:
            asyncio.get_running_loop().call_later(LAST_ANSWERS_S, self._give_up, leader, asked)

    def _give_up(self, leader: NodeId, numbers: Sequence[int]) -> None:
        for number in numbers:
            waiting = self._waiting.get(number)
            if waiting is not None and not waiting[1].done():
                waiting[1].set_exception(
                    OutcomeUnknown(
                        f"node {leader}, which held a forwarded request, leads no more and does "
                        "not answer: it may or may not have been done"
                    )
                )

    async def _answer(self, source: NodeId, call: Call) -> None:
        # Whatever else escapes is a defect and goes to the log; the caller must not wait for it.
        reply = Reply(call.id, "the request failed inside the node", b"")
        try:
            reply = Reply(call.id, "", await self._handler(call.kind, call.payload))
        except BalsaError as error:
            reply = Reply(call.id, error.message, b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            reply = Reply(call.id, f"the call's payload is malformed: {error}", b"")
        finally:
            self._reply(source, reply)

    def _reply(self, source: NodeId, reply: Reply) -> None:
        self._send(FORWARD, source, _encoder.encode(reply))
