"""Finding near vectors: HNSW over columns, as plan, edit, apply.

The problem. Given n vectors and a query, find the k nearest. Comparing with all of them is exact
and costs n distances. A *graph* does it in about log n: connect each vector with some of its
neighbours; start anywhere; step to the neighbour nearest to the query until no step helps. The
index is Malkov and Yashunin's *hierarchical navigable small world* graph (HNSW, IEEE TPAMI 2020,
arXiv 1603.09320); the code names the paper's algorithms where it runs them.

How the graph finds things (`walk_kernels`, `search_kernels`)
-------------------------------------------------------------
*Rows and layers.* A vertex is a *row* of the vectors column. All rows are on layer 0; one in m of
them also on layer 1, one in m * m on layer 2, and so on: the upper layers are the motorways. Which
rows, a hash of row and seed decides (section 4 of the paper draws it at random).

*Descent.* From the *entry*, a row of the top layer, steps on each layer lead near the query
(Algorithm 5, lines 1-5). Greedy steps can end in the wrong island of the data, so the nearest few
rows are expanded, and all that were measured on the way are starting points of the next layer.

*Beam.* Greedy steps alone end in local minima, so layer 0 is searched with a beam (Algorithm 2): a
sorted *pool* of the `ef` nearest rows seen. Expand the nearest row not expanded yet: compute the
distances of its unseen neighbours, offer them to the pool; stop when all of the pool is expanded.
`ef` buys recall with time; `k` results are the head of the pool.

*Which neighbours.* Not the nearest ones: they would all lie in one direction, and a cluster would
link to itself only. Algorithm 4 walks the candidates from near to far and keeps one only if it is
nearer to the new row than to every neighbour kept so far. What is left points in all directions.
Inner products of vectors of any length (Dot) are no geometry: the long are everyone's neighbours,
the short no one's. There a quarter of the links is chosen by distance (docs/design/0011).

Why it is fast: codes (`quantiser`, `code_kernels`, `distance_kernels`)
-----------------------------------------------------------------------
A walk waits for memory more than it computes: some hundred vectors from all over, eight cache lines
each for 128 dimensions. So each row also has a *code*, one byte for a number, in two lines. From
some thousand rows on, walks measure by codes: the query becomes whole numbers within -64..64, and
the sum of code * query is exact integer arithmetic, four rows at a time, the same on every
processor. Codes only decide where to walk; the best candidates are then scored by the exact kernel,
as many as the error of the codes leaves open. The leader trains the *quantiser* (mean and step) and
the log carries it; making codes computes no distance, so every replica makes its own.

Three more things count. Neighbours not seen yet are listed first, asked for, and only then
measured, so that memory answers many requests at once. What cannot be predicted is computed without
a branch: which neighbours are new, which distances are small enough. And nothing on the way
allocates, counts references or passes arrays by value (`kernel_cache`).

How it changes: plan, edit, apply (`planner`, `edit`, `applier`)
-----------------------------------------------------------------
Distances are expensive, memory writes are cheap, and replicas must be equal to the byte. So one
node *plans* (searches, selects, writes nothing), the plan is an *edit* (about 300 bytes for each
row of 128 dimensions), the edit goes through the log, and every node *applies* it. A new vector
first joins the *tail*: rows that are stored but not linked, which every search scans exactly. An
edit links a batch of them. Lists have *slack*: links back are appended until a list is full, and
only then does Algorithm 4 choose again, which saves most of the reductions.

Deleting makes a *tombstone*: the row is walked through but not returned. When enough are dead, a
*repair* (`repair`, `repair_kernels`) takes them out of all lists, gives those lists others, moves
the entry if it must and frees the rows, in bounded edits; rows that no path leads to are linked.

Filters
-------
A filter is a mask over slots. Few matching rows: a scan of them. Many (a third and more): a beam
that walks through everything and collects matches, until enough are known and nothing nearer is
left to expand. Between: a beam over matching rows only, which steps over the others by reading
their lists (*two-hop*, ACORN-1). Both give up, and the scan decides, when they run dry, have cost
half of what it would, or find matches much rarer around the query than elsewhere: then the answer
lies where no walk towards the query leads. The borders are counted in distances, from replicated
numbers only.

Recall (`calibration`, `tuning`)
--------------------------------
Which `ef` finds how much depends on the data. The leader measures it with stored vectors that are
left out of their own search, and the log carries the table; every replica reads its `ef` there.

Invariants (`check` verifies them)
----------------------------------
1. Equal columns and equal calls of `add`, `tombstone` and `apply` give equal columns. No clock, no
   thread, no floating-point sum takes part in them.
2. `graph_version` counts the edits. An edit applies to the version it was planned on; on any other
   it is ignored by all replicas alike. Only edits change links.
3. A row is freed only by an edit, so no row is re-used under a plan.
4. A list names rows of its layer or higher, none twice, never its owner; unused bytes are zero.
5. The entry is a row of the top layer and was linked by an earlier, or the same, edit.
6. Every exact distance, in walks, scans and scores, is the same sum in the same order
   (`intrinsics`), every coded one a sum of integers (Dot: times the step of the row): an answer
   does not depend on the path that found it, nor on the processor. Ties break by row.
7. Codes are those of the present quantiser for the first `CODED_ROWS` rows; walks use them when
   that is all of them.

Costs
-----
Memory beside the vectors: 4 * width0 bytes of links a row (192 for m = 16), about 12 more for the
rest, `4 * width_upper / (m - 1)` for upper layers. One search at ef 64 over 35,000 vectors of 128
dimensions: about 1,600 distances, 0.1 ms. Planning: about 0.15 ms a row and core; applying: 0.002.

What it does not do
-------------------
It takes no locks: writers must be kept apart from readers by the caller (`plan` alone may run
beside `add` and `tombstone`). It promises recall only as measured, on queries like the vectors.
"""

from balsadb.index.kernel_cache import compilations
from balsadb.index.metrics import Metric, larger_is_better, prepare_vector, scores_of
from balsadb.index.options import EF_MAX, INT8, QUANTISATIONS, IndexOptions, Precision
from balsadb.index.rehearsal import compile_all, compile_links, compile_others
from balsadb.index.vector_index import AUTO, Codes, VectorIndex

__all__ = [
    "AUTO",
    "EF_MAX",
    "INT8",
    "QUANTISATIONS",
    "Codes",
    "IndexOptions",
    "Metric",
    "Precision",
    "VectorIndex",
    "compilations",
    "compile_all",
    "compile_links",
    "compile_others",
    "larger_is_better",
    "prepare_vector",
    "scores_of",
]
