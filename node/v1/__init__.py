"""What may be asked of the v1 routes, and what they answer, without the asking and answering. Pure.

`bodies.py` and `query.py` parse, `told.py` has the answers' bodies.
"""
