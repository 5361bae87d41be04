"""Checks."""
def violations(held, options):
    return []
