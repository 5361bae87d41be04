"""BalsaDB: a vector database whose replicas are the same, to the byte."""
