"""How a builder of `requests` becomes a method of both clients.

`method(requests.count)` is a method with the builder's parameters, types and docstring that sends
the call and gives its result; `async_method` gives an awaitable of it.
"""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from balsadb.client.requests import Call

P = ParamSpec("P")
T = TypeVar("T")


class Caller(Protocol):
    """What a client must have for its methods to work."""

    def call(self, call: Call[T]) -> T:
        """Send the call; its result."""
        ...


class AsyncCaller(Protocol):
    """`Caller` for an event loop."""

    async def call(self, call: Call[T]) -> T:
        """Send the call; its result."""
        ...


def method(builder: Callable[P, Call[T]]) -> Callable[Concatenate[Any, P], T]:
    """The blocking method of `builder`."""

    def run(self: Caller, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.call(builder(*args, **kwargs))

    _describe(run, builder)
    return run


def async_method(
    builder: Callable[P, Call[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The awaitable method of `builder`."""

    async def run(self: AsyncCaller, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.call(builder(*args, **kwargs))

    _describe(run, builder)
    return run


def _describe(run: Callable[..., Any], builder: Callable[..., Any]) -> None:
    """Give the method the builder's name, text and parameters, for `help` and editors."""
    run.__name__ = builder.__name__
    run.__qualname__ = f"Client.{builder.__name__}"
    run.__doc__ = builder.__doc__
    signature = inspect.signature(builder)
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [self_parameter, *signature.parameters.values()]
    vars(run)["__signature__"] = signature.replace(parameters=parameters)
