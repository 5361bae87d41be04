"""Compiles a function that only kernels call: to LLVM's form, and no further.

Numba optimises every function it compiles and makes machine code of it, also of one that Python can
never call. A kernel links the LLVM form of its parts into its own and optimises the whole, so for a
part both are done in vain: without them a cold start takes little more than half the time, and the
kernels are as fast. Numba has no option for this: two steps of its library class are replaced.
"""

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _PartLibrary(JITCodeLibrary):
    """Holds a module to be linked into others; the execution engine never sees it."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def _optimize_final_module(self) -> None:
        """Nothing: the kernel does it."""

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002  Numba's signature
        """Null, as Numba says for a function without a wrapper for Python."""
        return 0

    @property
    def codegen(self) -> Any:
        """What Numba asks to tell the machine code where its environment is: there is none."""
        return _NoMachineCode()


class _NoMachineCode:
    def set_env(self, env_name: str, env: Any) -> None:
        pass


class PartCompiler(Compiler):
    """Numba's own pipeline, with a library that ends before machine code."""

    def compile_extra(self, func: Any) -> Any:
        """Compile the Python function `func`; what it becomes is found by its kernels."""
        state: Any = self.state
        state.library = _PartLibrary(state.targetctx.codegen(), func.__qualname__)
        numbas: Any = super()
        return numbas.compile_extra(func)
