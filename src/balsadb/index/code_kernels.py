# pyright: basic
"""Integer distances of 8-bit codes, four rows at a time, by the best instructions there are.

Three sums over codes of `blocks` * 64 bytes:

* `product4`: sum of code * query, codes unsigned 8-bit, the query signed and within -64..64. The
  bound is what makes every way of computing it exact: on AVX2 two neighbouring products are added
  in 16 bits (vpmaddubsw, which saturates beyond 32,767; 2 * 255 * 64 = 32,640).
* `gap4`: sum of absolute differences of unsigned 8-bit codes.
* `square4`: sum of squared differences of unsigned 8-bit codes.

The way is chosen once a process from what the processor has (`WAY`): AVX-512 VNNI, AVX2, or plain
LLVM vectors for everything else. All give the same integers: there is nothing to round, and no sum
overflows 32 bits up to `DIM_MAX` dimensions. `BALSADB_KERNELS=plain` (or `avx2`) chooses by hand.
"""

from typing import Final

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from balsadb.index.kernel_cache import instructions_wanted

BLOCK_BYTES: Final = 64
"""Codes are padded to whole blocks of this many bytes, one cache line each."""
QUERY_MAX: Final = 64
"""Largest magnitude of an element of a coded query of `product4`."""
ROWS_AT_ONCE: Final = 4

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def _vector(kind, lanes):
    return ir.VectorType(kind, lanes)


def _ways() -> tuple[str, ...]:
    """The ways that this processor and this LLVM have, the best one last."""
    features = llvm.get_host_cpu_features()
    ways = ["plain"]
    if features.get("avx2"):
        ways.append("avx2")
    if features.get("avx512vnni") and features.get("avx512bw") and _knows_vnni():
        ways.append("vnni")
    return tuple(ways)


def _knows_vnni() -> bool:
    """Whether this LLVM's intrinsic has the types used here (they changed between versions)."""
    text = (
        "declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <64 x i8>, <64 x i8>)\n"
        "define <16 x i32> @f(<16 x i32> %a, <64 x i8> %b, <64 x i8> %c) {\n"
        "  %r = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512"
        "(<16 x i32> %a, <64 x i8> %b, <64 x i8> %c)\n"
        "  ret <16 x i32> %r\n}\n"
    )
    try:
        llvm.parse_assembly(text).verify()
    except RuntimeError:
        return False
    return True


WAYS: Final = _ways()
WAY: Final = instructions_wanted() if instructions_wanted() in WAYS else WAYS[-1]
"""Which instructions are used: "vnni", "avx2" or "plain"."""


@intrinsic
def product4(typingctx, query, first, second, third, fourth, blocks, out):
    """Four inner products, int32, written to address `out` (16 bytes); the query and the four rows
    are given by their addresses."""
    u = types.uint64
    return types.void(u, u, u, u, u, types.int64, u), _codegen(_PRODUCTS[WAY])


@intrinsic
def gap4(typingctx, query, first, second, third, fourth, blocks, out):
    """Four sums of absolute differences, as `product4`."""
    u = types.uint64
    return types.void(u, u, u, u, u, types.int64, u), _codegen(_GAPS[WAY])


@intrinsic
def square4(typingctx, query, first, second, third, fourth, blocks, out):
    """Four sums of squared differences, as `product4`."""
    u = types.uint64
    return types.void(u, u, u, u, u, types.int64, u), _codegen(_SQUARES[WAY])


def _codegen(step):
    """Code that runs `step` over the blocks for four rows and stores the four sums."""
    width, lanes, add = step

    def codegen(context, builder, signature, arguments):
        query, *rows, blocks, out = arguments
        wide = _vector(_I32, lanes)
        sums = [
            cgutils.alloca_once_value(builder, ir.Constant(wide, [0] * lanes)) for _ in range(4)
        ]
        parts = builder.mul(blocks, ir.Constant(_I64, BLOCK_BYTES // width))
        with cgutils.for_range(builder, parts, intp=_I64) as loop:
            offset = builder.mul(loop.index, ir.Constant(_I64, width))
            wanted = _load(builder, query, offset, width)
            for row, total in zip(rows, sums, strict=True):
                codes = _load(builder, row, offset, width)
                builder.store(add(builder, builder.load(total), codes, wanted), total)
        folded = [_narrow(builder, builder.load(total), lanes) for total in sums]
        stored = builder.store(
            _fold4(builder, folded), builder.inttoptr(out, _vector(_I32, 4).as_pointer())
        )
        stored.align = 4
        return context.get_dummy_value()

    return codegen


def _load(builder, address, offset, width):
    pointer = builder.inttoptr(builder.add(address, offset), _vector(_I8, width).as_pointer())
    loaded = builder.load(pointer)
    loaded.align = 1
    return loaded


def _call(builder, name, result, arguments):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _product_vnni(builder, total, codes, query):
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", total.type, [total, codes, query])


def _product_avx2(builder, total, codes, query):
    ones = ir.Constant(_vector(_I16, 16), [1] * 16)
    pairs = _call(builder, "llvm.x86.avx2.pmadd.ub.sw", _vector(_I16, 16), [codes, query])
    fours = _call(builder, "llvm.x86.avx2.pmadd.wd", _vector(_I32, 8), [pairs, ones])
    return builder.add(total, fours)


def _product_plain(builder, total, codes, query):
    wide = total.type
    product = builder.mul(builder.zext(codes, wide), builder.sext(query, wide))
    return builder.add(total, product)


def _gap_avx2(builder, total, codes, query):
    eights = _call(builder, "llvm.x86.avx2.psad.bw", _vector(_I64, 4), [codes, query])
    return builder.add(total, builder.bitcast(eights, _vector(_I32, 8)))


def _gap_plain(builder, total, codes, query):
    wide = total.type
    gap = builder.sub(builder.zext(codes, wide), builder.zext(query, wide))
    negative = builder.icmp_signed("<", gap, ir.Constant(wide, [0] * wide.count))
    return builder.add(total, builder.select(negative, builder.neg(gap), gap))


def _square_avx2(builder, total, codes, query):
    wide = _vector(_I16, 16)
    gap = builder.sub(builder.zext(codes, wide), builder.zext(query, wide))
    pairs = _call(builder, "llvm.x86.avx2.pmadd.wd", _vector(_I32, 8), [gap, gap])
    return builder.add(total, pairs)


def _square_plain(builder, total, codes, query):
    wide = total.type
    gap = builder.sub(builder.zext(codes, wide), builder.zext(query, wide))
    return builder.add(total, builder.mul(gap, gap))


_PRODUCTS = {
    "vnni": (64, 16, _product_vnni),
    "avx2": (32, 8, _product_avx2),
    "plain": (16, 16, _product_plain),
}
_GAPS = {
    "vnni": (32, 8, _gap_avx2),
    "avx2": (32, 8, _gap_avx2),
    "plain": (16, 16, _gap_plain),
}
_SQUARES = {
    "vnni": (16, 8, _square_avx2),
    "avx2": (16, 8, _square_avx2),
    "plain": (16, 16, _square_plain),
}
"""For each way: bytes a step, 32-bit lanes of a sum, and the step."""


def _shuffle(builder, first, second, lanes):
    mask = ir.Constant(_vector(_I32, len(lanes)), [ir.Constant(_I32, lane) for lane in lanes])
    return builder.shuffle_vector(first, second, mask)


def _narrow(builder, total, lanes):
    """Fold a sum to eight lanes."""
    if lanes == 8:
        return total
    low, high = range(8), range(8, 16)
    return builder.add(_shuffle(builder, total, total, low), _shuffle(builder, total, total, high))


def _fold4(builder, sums):
    """The totals of four sums of eight lanes, as one vector of four."""
    low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    first, second = (
        builder.add(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high))
        for a, b in (sums[:2], sums[2:])
    )
    near, far = [0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]
    pairs = builder.add(
        _shuffle(builder, first, second, near), _shuffle(builder, first, second, far)
    )
    even, odd = [0, 2, 4, 6], [1, 3, 5, 7]
    return builder.add(_shuffle(builder, pairs, pairs, even), _shuffle(builder, pairs, pairs, odd))
