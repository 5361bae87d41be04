"""Bytes that survive: the write-ahead log, checkpoints, and the data directory."""

from balsadb.storage.files import File, Files, Lock, RealFiles

__all__ = ["File", "Files", "Lock", "RealFiles"]
