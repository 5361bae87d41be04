"""Quantisation in requests and answers: scalar int8, or none.

    {"scalar": {"type": "int8"}}     walks go by 8-bit codes once there are rows enough
    "Disabled"                       walks go by float32, always
    absent or null                   as the collection's; for a collection: int8

The dialect's `quantile`, `always_ram` and `memory` are accepted and have no effect: the step is
chosen on the data, and codes are in memory. Product, binary and turbo quantisation are refused.
"""

from typing import Annotated, Any, Literal

import msgspec

from balsadb.api.codec import as_object, convert
from balsadb.errors import InvalidInput

INT8 = "int8"
NONE = "none"
DISABLED = "Disabled"
Quantization = Literal["int8", "none"]

_SCALAR = {
    "type": "object",
    "properties": {"scalar": {"$ref": "#/components/schemas/ScalarQuantization"}},
    "required": ["scalar"],
}
_CONFIG = msgspec.Meta(
    description="8-bit codes for walks ({scalar}), none (Disabled), or as usual (null: int8)",
    extra_json_schema={"anyOf": [_SCALAR, {"const": DISABLED}, {"type": "null"}]},
)
QuantizationConfig = Annotated[Any, _CONFIG]


class ScalarQuantization(msgspec.Struct, omit_defaults=True):
    """8-bit codes. Only `type` has an effect."""

    type: Literal["int8"]
    quantile: Annotated[float, msgspec.Meta(ge=0.5, le=1)] | None = None
    always_ram: bool | None = None
    memory: str | None = None


class QuantizationParams(msgspec.Struct):
    """How a search uses the codes. `ignore`: walk in float32; `oversampling`: score exactly so many
    times `limit` candidates, or more; `rescore`: accepted, scores are exact in any case."""

    ignore: bool | None = None
    rescore: bool | None = None
    oversampling: Annotated[float, msgspec.Meta(ge=1)] | None = None


def quantization_of(value: object, field: str) -> Quantization | None:
    """What a `quantization_config` asks for; None: nothing. InvalidInput behind `field`."""
    if value is None:
        return None
    if value == DISABLED:
        return NONE
    kinds = [kind for kind, params in (as_object(value) or {}).items() if params is not None]
    for kind in ("product", "binary", "turbo"):
        if kind in kinds:
            raise InvalidInput(f"{field}.{kind}", "is not supported: scalar int8 is")
    if "scalar" not in kinds:
        raise InvalidInput(field, f'must be {{scalar: {{type: "int8"}}}} or "{DISABLED}"')
    params = (as_object(value) or {})["scalar"]
    return convert(params, ScalarQuantization, f"{field}.scalar").type


def config_of(quantization: str) -> dict[str, Any] | None:
    """The `quantization_config` that an answer shows; None: there is none."""
    return {"scalar": {"type": INT8, "always_ram": True}} if quantization == INT8 else None
