"""The embedded world and models of unroller: small enough for a laptop, exact enough to measure on.

This room imports nothing of the engine; `primitives/backends/nano.py` is the one door between them.
"""
