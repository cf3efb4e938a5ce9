"""A prediction as an articulated asset: closed textured meshes, collision, physics, URDF, MJCF, GLB and USD.

Data flow, each step in a module of its own::

    PredictedObject ─► orientation ─► density ─► part_meshes ─► texturing ─► collision ─► physics ─► Asset ─► files
"""

RESULT = "prediction.json"
"""What tells a folder that ``partrm predict`` wrote."""
