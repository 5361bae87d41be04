"""Plans that several threads compute together."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from balsadb.database import CreateCollection, UpsertPoints, VectorBlock, VectorParams
from balsadb.database.linking import Spread


def test_a_plan_is_the_same_bytes_for_any_number_of_threads(bench) -> None:
    """What a faster leader proposes is what a slower one would have."""
    values = np.random.default_rng(3).standard_normal((3000, 16)).astype(np.float32)
    bench.do(CreateCollection("many", {"": VectorParams(16, "Euclid")}))
    bench.do(UpsertPoints("many", list(range(3000)), {"": VectorBlock(values)}))
    work = bench.database.link_work(idle=True)
    for rows in (700, 1300, 900, 1100):  # the first are of codes, the others of links
        alone = bench.database.plan(work, rows)
        assert alone is not None
        for threads in (2, 4):
            with ThreadPoolExecutor(threads) as pool:
                assert bench.database.plan(work, rows, Spread(threads, pool.map)) == alone
        bench.propose(alone)
