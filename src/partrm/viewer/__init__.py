"""The interactive page: drag a part in the picture or in 3D, watch it move, play its joint, take the results away.

One :class:`~partrm.viewer.session.Session` a browser tab, all on one :class:`~partrm.viewer.engine.Engine`, which owns
the network; viser draws. World frame of the page: the canonical frame of the prediction (x right, y up); the source
picture stands to the left of the object.
"""
