"""Articulated objects: parts, materials, joints, kinematics, and their sources."""
