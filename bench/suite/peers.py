"""Every engine that can be compared, by name, in the order of tables."""

from bench.suite.databases import Qdrant, QdrantInt8, Vsag, VsagHGraph, VsagHGraphUniform
from bench.suite.engines import Balsa, BalsaFloat, Engine, Hnswlib
from bench.suite.libraries import Faiss, FaissSQ8, Svs, SvsHalf, SvsLvq, Usearch, UsearchI8

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        Balsa,
        BalsaFloat,
        Hnswlib,
        Faiss,
        FaissSQ8,
        Usearch,
        UsearchI8,
        Svs,
        SvsHalf,
        SvsLvq,
        Vsag,
        VsagHGraph,
        VsagHGraphUniform,
        Qdrant,
        QdrantInt8,
    )
}
OURS = (Balsa.name, BalsaFloat.name)
