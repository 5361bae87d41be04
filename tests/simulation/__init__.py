"""Deterministic simulation: a disk, a network and a clock that misbehave on purpose."""
