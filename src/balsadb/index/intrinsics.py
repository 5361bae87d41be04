# pyright: basic
"""What Numba cannot say: prefetch, addresses, and sums in a fixed order at vector speed.

The three distance sums are written as LLVM vector code: 32 lanes, lane j taking elements j, j + 32,
j + 64, ...; the lanes folded in halves; the last `n % 32` elements added one by one. No fast-math
flag is set, so neither LLVM nor the processor may reorder or fuse anything: the result is the same
on every machine, and equal to `balsadb.index.flat` bit for bit. LLVM splits the 32 lanes into
whatever registers there are (two of AVX-512, four of AVX2, eight of SSE or NEON).

Under `NUMBA_DISABLE_JIT` nothing here can run; kernels that use it need the compiler.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from balsadb.index.metrics import ABSOLUTE, PRODUCT

LANES = 32
LINE_BYTES = 64


@intrinsic
def address_of(typingctx, array):
    """The address of an array's first element, as an unsigned integer."""

    def codegen(context, builder, signature, arguments):
        struct = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(struct.data, ir.IntType(64))

    if not isinstance(array, types.Array):
        return None
    return types.uint64(array), codegen


@intrinsic
def prefetch(typingctx, address):
    """Ask for the cache line at `address` (to read, to all levels). Never faults."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        int32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, int32, int32, int32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        flags = [ir.Constant(int32, value) for value in (0, 3, 1)]  # read, keep, data
        builder.call(function, [pointer, *flags])
        return context.get_dummy_value()

    return types.void(types.uint64), codegen


@intrinsic
def trailing_zeros(typingctx, word):
    """How many zeros the bits of a word end in; 64 for zero."""

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@intrinsic
def bits_set(typingctx, word):
    """How many bits of a word are ones."""

    def codegen(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def set_bytes(typingctx, address):
    """Which of the 64 bytes at an address, of any alignment, are not zero: the first is bit 0."""

    def codegen(context, builder, signature, arguments):
        wide = ir.VectorType(ir.IntType(8), 64)
        loaded = builder.load(builder.inttoptr(arguments[0], wide.as_pointer()))
        loaded.align = 1
        some = builder.icmp_unsigned("!=", loaded, ir.Constant(wide, [0] * 64))
        return builder.bitcast(some, ir.IntType(64))

    return types.uint64(types.uint64), codegen


def _view(dtype):
    """An intrinsic that makes a one-dimensional array of `dtype` over memory."""
    kind = types.Array(dtype, 1, "C")

    def view(typingctx, address, count):
        def codegen(context, builder, signature, arguments):
            array = context.make_array(kind)(context, builder)
            item = context.get_abi_sizeof(context.get_data_type(dtype))
            width = ir.Constant(ir.IntType(64), item)
            populate_array(
                array,
                data=builder.inttoptr(arguments[0], array.data.type),
                shape=[arguments[1]],
                strides=[width],
                itemsize=width,
                meminfo=None,
            )
            return array._getvalue()  # noqa: SLF001  Numba's own way to get at a struct's value

        return kind(types.uint64, types.int64), codegen

    view.__doc__ = f"An array of {dtype} (count,) over the memory at an address."
    return intrinsic(view)


float32_at = _view(types.float32)
uint32_at = _view(types.uint32)
int32_at = _view(types.int32)
uint64_at = _view(types.uint64)


@intrinsic
def float_bits(typingctx, value):
    """The bits of a float32 as an unsigned integer."""

    def codegen(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], ir.IntType(32))
        return builder.zext(bits, ir.IntType(64))

    return types.uint64(types.float32), codegen


@intrinsic
def bits_float(typingctx, bits):
    """The float32 with these (low 32) bits."""

    def codegen(context, builder, signature, arguments):
        narrow = builder.trunc(arguments[0], ir.IntType(32))
        return builder.bitcast(narrow, ir.FloatType())

    return types.float32(types.uint64), codegen


@intrinsic
def product_sum(typingctx, first, second, count):
    """Inner product of two float32 vectors of `count` elements, given by their addresses."""
    return types.float32(types.uint64, types.uint64, types.int64), _sum_codegen(PRODUCT)


@intrinsic
def squared_sum(typingctx, first, second, count):
    """Sum of squared differences of two float32 vectors, as `product_sum`."""
    return types.float32(types.uint64, types.uint64, types.int64), _sum_codegen(None)


@intrinsic
def absolute_sum(typingctx, first, second, count):
    """Sum of absolute differences of two float32 vectors, as `product_sum`."""
    return types.float32(types.uint64, types.uint64, types.int64), _sum_codegen(ABSOLUTE)


def _sum_codegen(kind):
    def codegen(context, builder, signature, arguments):
        return _lane_sum(builder, kind, *arguments)

    return codegen


def _term(builder, kind, a, b):
    """What is summed, for scalars and vectors alike."""
    if kind == PRODUCT:
        return builder.fmul(a, b)
    gap = builder.fsub(a, b)
    if kind == ABSOLUTE:
        function = ir.FunctionType(gap.type, [gap.type])
        name = "llvm.fabs." + ("f32" if gap.type == ir.FloatType() else f"v{LANES}f32")
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [gap])
    return builder.fmul(gap, gap)


def _lane_sum(builder, kind, first, second, count):
    scalar, wide = ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
    index = ir.IntType(64)

    def load(address, position, type_):
        at = builder.add(address, builder.mul(position, ir.Constant(index, 4)))
        loaded = builder.load(builder.inttoptr(at, type_.as_pointer()))
        loaded.align = 4
        return loaded

    def add_to(total, position, type_):
        a, b = load(first, position, type_), load(second, position, type_)
        builder.store(builder.fadd(builder.load(total), _term(builder, kind, a, b)), total)

    lanes = cgutils.alloca_once_value(builder, ir.Constant(wide, [0.0] * LANES))
    blocks = builder.lshr(count, ir.Constant(index, LANES.bit_length() - 1))
    with cgutils.for_range(builder, blocks, intp=index) as loop:
        add_to(lanes, builder.mul(loop.index, ir.Constant(index, LANES)), wide)
    folded, width = builder.load(lanes), LANES
    while width > 1:
        width //= 2
        halves = [
            builder.shuffle_vector(folded, folded, _mask(range(at, at + width)))
            for at in (0, width)
        ]
        folded = builder.fadd(*halves)
    total = cgutils.alloca_once(builder, scalar)
    builder.store(builder.extract_element(folded, ir.Constant(ir.IntType(32), 0)), total)
    full = builder.mul(blocks, ir.Constant(index, LANES))
    with cgutils.for_range(builder, builder.sub(count, full), intp=index) as loop:
        add_to(total, builder.add(full, loop.index), scalar)
    return builder.load(total)


def _mask(elements):
    int32 = ir.IntType(32)
    chosen = list(elements)
    return ir.Constant(ir.VectorType(int32, len(chosen)), [ir.Constant(int32, e) for e in chosen])
