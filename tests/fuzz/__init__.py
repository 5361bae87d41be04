"""Whatever reads bytes that others wrote, against bytes of any kind.

`targets` has one entry for each decoder: valid inputs to start from, and a check that must hold for
every input. `mutations` damages valid inputs, `regressions` keeps those that once broke something.
`tests/property/test_decoders.py` runs all of it in small; `python -m tests.fuzz` for as long as one
likes, `python -m tests.fuzz.guided` the same guided by coverage.
"""
