# What the kernels use of Numba, typed closely enough for callers of compiled functions.
from collections.abc import Callable, Iterable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from numba import extending as extending
from numba import types as types

P = ParamSpec("P")
R = TypeVar("R")

__version__: str

class Dispatcher(Generic[P, R]):
    py_func: Callable[P, R]
    signatures: list[tuple[Any, ...]]
    nopython_signatures: list[Any]
    overloads: dict[Any, Any]
    stats: Any
    targetoptions: dict[str, Any]
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def compile(self, sig: Any) -> Any: ...
    def enable_caching(self) -> None: ...
    def disable_compile(self, val: bool = ...) -> None: ...
    def inspect_asm(self, signature: Any = ...) -> Any: ...
    def inspect_llvm(self, signature: Any = ...) -> Any: ...

@overload
def njit(function: Callable[P, R], /) -> Dispatcher[P, R]: ...
@overload
def njit(
    signature: Any = ...,
    /,
    *,
    locals: dict[str, Any] = ...,
    cache: bool = ...,
    nogil: bool = ...,
    parallel: bool = ...,
    fastmath: bool | set[str] = ...,
    inline: str = ...,
    boundscheck: bool | None = ...,
    error_model: str = ...,
    debug: bool = ...,
    no_cpython_wrapper: bool = ...,
    forceinline: bool = ...,
) -> Callable[[Callable[P, R]], Dispatcher[P, R]]: ...
def prange(*args: int) -> range: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def literal_unroll(container: Iterable[Any]) -> Iterable[Any]: ...
def carray(ptr: Any, shape: Any, dtype: Any = ...) -> Any: ...

config: Any
uint8: Any
uint16: Any
uint32: Any
uint64: Any
int8: Any
int16: Any
int32: Any
int64: Any
intp: Any
uintp: Any
float32: Any
float64: Any
boolean: Any
void: Any

def __getattr__(name: str) -> Any: ...
