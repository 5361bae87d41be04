"""The four things a node can be, each with the state that dies with it."""
