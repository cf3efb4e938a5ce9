"""Evaluation: fixed samples of known objects, scored as ``partrm predict`` would answer them.

Data flow::

    objects ─► planning ─► sets.EvalSet (one file) ─► runs.evaluate (network, renders) ─► scoring (rows) ─► report
"""
