"""Tests; a package, so that the simulated disk and cluster can be imported from any of them."""
