"""A cabinet with handles, of which an arm knows everything."""

from dataclasses import replace

import numpy as np

from partrm.objects.articulated_object import ArticulatedObject
from partrm.robotics.arm_plan import BelievedObject, PlanSettings
from partrm.robotics.beliefs import true_object
from partrm.robotics.grasps import GraspSettings
from partrm.robotics.simulated_arm import ArmSettings, TouchSettings
from partrm.robotics.simulated_object import Task
from support.boxes import box, cabinet

QUICK = PlanSettings(tries=2, grasps=GraspSettings(places=12))
NO_TOUCH = TouchSettings(probes=0)
SETTINGS = ArmSettings(approach_m_per_s=0.1, rounds=3, simulation_s=0.004, timestep_s=0.012, plan=QUICK, touch=NO_TOUCH)
DOOR, DRAWER = 1, 2
HANDLES = {DOOR: ([0.055, -0.24, 0.1], [0.07, -0.225, 0.24]), DRAWER: ([0.055, -0.08, -0.2], [0.07, 0.08, -0.185])}
"""Bars before the fronts, object of diagonal 1; the fronts end at 0.28 before the object is normalised."""


def with_handles() -> ArticulatedObject:
    obj = cabinet()
    parts = list(obj.parts)
    for number, (low, high) in HANDLES.items():
        part = parts[number]
        front = part.vertices[:, 0].max()
        vertices, faces = box([front + low[0] - 0.02, *low[1:]], [front + high[0] - 0.02, *high[1:]])
        parts[number] = replace(
            part,
            vertices=np.concatenate([part.vertices, vertices]),
            faces=np.concatenate([part.faces, faces + len(part.vertices)]),
            face_material=np.concatenate([part.face_material, np.zeros(len(faces), part.face_material.dtype)]),
        )
    return replace(obj, parts=tuple(parts)).rescaled(0.6, np.zeros(3))


OBJECT = with_handles()


def case(part: int, locked: bool = False, seed: int = 0) -> tuple[Task, BelievedObject]:
    task = Task(OBJECT, part, OBJECT.closed_q(), float(OBJECT.joint_limits[part, 1]), locked)
    start = OBJECT.parts[part].vertices[-8:].mean(0)
    return task, true_object(task, start, np.array([1.4, -0.3, 0.5]), seed)
