"""What the benchmarks of the vector index share: data sets, engines, measuring, reports, plots.

`datasets` makes vectors, queries and the exact answers. `engines` has the protocol of an index
under test, ours and hnswlib; `libraries` and `databases` the other peers; `peers` lists all.
`cache` builds a graph once; `measure` times engines side by side; `report` writes JSON; `plots`
draws it. Nothing here runs by itself: the scripts one folder up do.
"""
