"""Materials as Blender shader nodes: solid patterns in the part's rest frame, textures, gloss. For blender.py alone."""

from typing import Any

import bpy
import numpy as np

from partrm.objects.materials import Material, Pattern


class _Nodes:
    """Shader nodes by what they compute; values are sockets, or numbers and triples."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree

    def add(self, kind: str, *inputs: Any, **settings: Any) -> Any:
        """A node with its first inputs connected or set."""
        node = self.tree.nodes.new(kind)
        for name, value in settings.items():
            setattr(node, name, value)
        for socket, value in zip(node.inputs, inputs, strict=False):
            self.connect(value, socket)
        return node

    def connect(self, value: Any, socket: Any) -> None:
        """Link a socket, or set a constant."""
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        elif value is not None:
            socket.default_value = value

    def math(self, operation: str, a: Any, b: Any = None) -> Any:
        return self.add("ShaderNodeMath", a, b, operation=operation).outputs[0]

    def vector(self, operation: str, a: Any, b: Any = None) -> Any:
        node = self.add("ShaderNodeVectorMath", a, b, operation=operation)
        return node.outputs["Value" if operation in ("DOT_PRODUCT", "LENGTH") else "Vector"]

    def scaled(self, a: Any, by: Any) -> Any:
        """A vector times a number."""
        node = self.add("ShaderNodeVectorMath", a, operation="SCALE")
        self.connect(by, node.inputs["Scale"])
        return node.outputs["Vector"]

    def noise(self, at: Any, scale: float) -> Any:
        """Smooth noise, about -1 to 1."""
        node = self.add("ShaderNodeTexNoise")
        self.connect(at, node.inputs["Vector"])
        for name, value in (("Scale", scale), ("Detail", 0.0)):
            node.inputs[name].default_value = value
        return self.math("MULTIPLY", self.math("SUBTRACT", node.outputs[0], 0.5), 2.0)

    def weighted(self, *terms: tuple[float, Any]) -> Any:
        """A sum of numbers times sockets."""
        total: Any = 0.0
        for weight, value in terms:
            total = self.math("ADD", total, self.math("MULTIPLY", value, weight))
        return total

    def clamped(self, value: Any) -> Any:
        return self.add("ShaderNodeClamp", value).outputs[0]

    def mixed(self, factor: Any, a: Any, b: Any, blend: str = "MIX") -> Any:
        """A blend of two colours."""
        node = self.add("ShaderNodeMix", data_type="RGBA", blend_type=blend)
        self.connect(factor, node.inputs[0])
        self.connect(a, node.inputs[6])
        self.connect(b, node.inputs[7])
        return node.outputs[2]


def _pattern_mix(nodes: _Nodes, material: Material) -> Any:
    """Weight of the second colour, as ``_warp_shading`` computes it (the noises differ)."""
    at_rest = nodes.add("ShaderNodeTexCoord").outputs["Object"]
    direction = tuple(material.direction)
    q = nodes.vector("ADD", nodes.scaled(at_rest, material.frequency), (0.137, 0.731, 0.373))
    along = nodes.vector("DOT_PRODUCT", q, direction)
    across = nodes.vector("SUBTRACT", q, nodes.scaled(nodes.add("ShaderNodeCombineXYZ", *direction).outputs[0], along))
    if material.pattern == Pattern.STRIPES:
        return nodes.math("GREATER_THAN", nodes.math("FRACT", along), 0.5)
    if material.pattern == Pattern.CHECKER:
        cell = nodes.vector("DOT_PRODUCT", nodes.vector("FLOOR", q), (0.5, 0.5, 0.5))
        return nodes.math("GREATER_THAN", nodes.math("FRACT", cell), 0.25)
    if material.pattern == Pattern.NOISE:
        both = nodes.weighted((0.8, nodes.noise(q, 1.0)), (0.4, nodes.noise(q, 2.0)))
        return nodes.clamped(nodes.math("ADD", both, 0.5))
    flat = nodes.add("ShaderNodeCombineXYZ", *direction).outputs[0]
    if material.pattern == Pattern.WOOD:
        stretched = nodes.vector("ADD", across, nodes.scaled(flat, nodes.math("MULTIPLY", along, 0.12)))
        radius = nodes.vector("LENGTH", nodes.vector("SUBTRACT", across, (3.1, 2.3, 1.7)))
        wobble = nodes.weighted((1.6, nodes.noise(stretched, 0.45)), (0.15, nodes.noise(stretched, 4.0)))
        ring = nodes.math("FRACT", nodes.math("ADD", radius, wobble))
        return nodes.math("MULTIPLY", nodes.math("MULTIPLY", ring, ring), nodes.math("SUBTRACT", 2.0, ring))
    fine = nodes.vector("ADD", across, nodes.scaled(flat, nodes.math("MULTIPLY", along, 0.02)))
    both = nodes.weighted((0.7, nodes.noise(fine, 6.0)), (0.5, nodes.noise(fine, 17.0)))
    return nodes.clamped(nodes.math("ADD", both, 0.5))


def linear_rgba(srgb: tuple[float, float, float]) -> tuple[float, ...]:
    """Linear colour with alpha 1."""
    c = np.asarray(srgb, dtype=np.float64)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return (*linear.tolist(), 1.0)


def _image(material: Material) -> Any:
    assert material.texture is not None
    h, w, _ = material.texture.shape
    image = bpy.data.images.new(material.name, w, h)
    pixels = np.ones((h, w, 4), np.float32)
    pixels[..., :3] = material.texture[::-1] / 255.0
    image.pixels.foreach_set(pixels.reshape(-1))
    image.pack()
    return image


def make_material(material: Material) -> Any:
    """A Blender material of one of an object's slots."""
    made = bpy.data.materials.new(material.name)
    made.use_nodes = True
    nodes = _Nodes(made.node_tree)
    color: Any = linear_rgba(material.color)
    if material.pattern != Pattern.PLAIN:
        color = nodes.mixed(_pattern_mix(nodes, material), color, linear_rgba(material.color2))
    if material.texture is not None:
        texture = nodes.add("ShaderNodeTexImage", image=_image(material), extension="REPEAT")
        color = nodes.mixed(1.0, color, texture.outputs["Color"], "MULTIPLY")
    shader = made.node_tree.nodes["Principled BSDF"]
    nodes.connect(color, shader.inputs["Base Color"])
    shader.inputs["Roughness"].default_value = 1.0 - 0.8 * material.gloss
    shader.inputs["Specular IOR Level"].default_value = 0.5 * material.gloss
    return made


def make_flat_material(value: float) -> Any:
    """A material that shines with one linear grey, whatever the light."""
    made = bpy.data.materials.new("flat")
    made.use_nodes = True
    made.node_tree.nodes.clear()
    nodes = _Nodes(made.node_tree)
    emission = nodes.add("ShaderNodeEmission", (value, value, value, 1.0), 1.0)
    nodes.add("ShaderNodeOutputMaterial", emission.outputs[0])
    return made


def make_world(ambient: list[float], sky: list[float], contrast: float) -> Any:
    """A sky, brightest towards ``sky``, that lights a diffuse surface as the ray caster's ambient term does.

    A radiance ``a + b (w . sky)`` gives the irradiance ``pi (a + 2/3 b (n . sky))``.
    """
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    nodes = _Nodes(world.node_tree)
    direction = nodes.add("ShaderNodeTexCoord").outputs["Generated"]
    height = nodes.vector("DOT_PRODUCT", nodes.vector("NORMALIZE", direction), tuple(sky))
    strength = nodes.math("ADD", nodes.math("MULTIPLY", height, 0.75 * contrast), 1.0 - 0.5 * contrast)
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (*ambient, 1.0)
    nodes.connect(nodes.math("MAXIMUM", strength, 0.0), background.inputs["Strength"])
    return world
