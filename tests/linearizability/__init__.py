"""Is a history of concurrent operations linearizable (Herlihy & Wing, TOPLAS 1990)?

Each operation must seem to take effect at one moment between its call and its return. `checker`
decides it for any sequential model, `models` has those of a register with compare-and-set and of
points, `histories` reads what was recorded, and the package is a command:

    python -m tests.linearizability history.jsonl          # our own lines
    python -m tests.linearizability --jepsen etcd.log      # a log of Jepsen's etcd tests
"""
