"""Numbers that look random and follow from a seed: for timeouts, not for secrets.

SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

_MASK = (1 << 64) - 1


class Chance:
    """A stream of numbers; equal seeds give equal streams."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def below(self, stop: int) -> int:
        """A number in [0, stop); `stop` is small, so the modulo's bias does not matter."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return (mixed ^ (mixed >> 31)) % stop
