"""Agreeing on a log: Raft as a pure machine (chapter to follow)."""
