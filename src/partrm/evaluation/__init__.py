"""Evaluation: fixed samples of known objects, scored as ``partrm predict`` would answer them.

Data flow::

    objects ─► planning ─► EvalSet (one file: eval_set) ─┐
    files ─► folder_sets, partdrag4d_pairs, user_samples ┴► session ─► runner (network, renders) ─► scoring (rows)
                                                                 └──────► report (metrics.json, tables, html_report)
"""
