"""The engine in this process as a transport."""
