"""Leave out of a model of OpenVINO what it computes for all tokens of a comment and reads for the first one alone.

A classifier that reads the first token needs the others up to the attention of its last layer, as keys and values.
Behind that, and for the queries, one token is enough: a sixth less to compute in a model of six layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

# Operations that compute each position from the same position of all their inputs.
ELEMENTWISE = {
    *("Add", "Subtract", "Multiply", "Divide", "Power", "Sqrt", "SquaredDifference"),
    *("Gelu", "Erf", "Tanh", "Relu", "Sigmoid", "Swish", "Convert"),
}


def keep_first_token(model: openvino.Model) -> None:
    """Change a model in place: what only a `Gather` of the first token needs is computed for that token alone.

    The result is the same. A model that does not read the first token alone stays as it is.
    """
    import numpy as np
    from openvino import opset13

    axes = _axes_of_one_token(model)
    cut = {}
    for node in model.get_ordered_ops():
        for number, axis in _needed_in_part(node, axes[node.get_name()]) if node.get_name() in axes else ():
            source = node.input_value(number)
            if source.get_node().get_name() in axes or _static(source.get_partial_shape()[axis]) == 1:
                continue
            key = source.get_node().get_name(), source.get_index(), axis
            if key not in cut:
                cut[key] = opset13.gather(source, np.array([0]), np.array(axis)).output(0)
            node.input(number).replace_source_output(cut[key])
    model.validate_nodes_and_infer_types()


def _axes_of_one_token(model: openvino.Model) -> dict[str, int]:
    """The nodes of which nobody needs more than the first position of an axis, by their names, and that axis."""
    axes = {}
    for node in reversed(model.get_ordered_ops()):
        users = [target for output in node.outputs() for target in output.get_target_inputs()]
        asked = {_axis_asked_for(user.get_node(), user.get_index(), axes) for user in users}
        if len(asked) == 1 and None not in asked and list(_needed_in_part(node, *asked)):
            axes[node.get_name()] = asked.pop()
    return axes


def _axis_asked_for(node: openvino.Node, number: int, axes: dict[str, int]) -> int | None:
    """The axis of which a node needs the first position of its input of that number alone; None if it needs all."""
    if node.get_name() in axes:
        return dict(_needed_in_part(node, axes[node.get_name()])).get(number)
    if node.get_type_name() != "Gather" or number != 0 or _constant(node, 1) != [0]:
        return None
    axis = _constant(node, 2)
    return axis[0] if axis else None


def _needed_in_part(node: openvino.Node, axis: int) -> Iterator[tuple[int, int]]:
    """The inputs of which one position of an axis of a node's output needs one position alone: number and axis.

    Its other inputs are needed whole. Nothing for a node of which that is not known.
    """
    kind, shape = node.get_type_name(), node.get_output_partial_shape(0)
    if kind in ELEMENTWISE:
        for number in range(node.get_input_size()):
            place = axis - len(shape) + len(node.get_input_partial_shape(number))
            if place >= 0:
                yield number, place
    elif kind == "MVN" and axis not in [place % len(shape) for place in _constant(node, 1) or [axis]]:
        yield 0, axis
    elif kind == "MatMul" and axis == len(shape) - 2 and not node.get_attributes()["transpose_a"]:
        yield 0, axis
    elif kind == "ScaledDotProductAttention" and axis == len(shape) - 2 and not node.get_attributes()["causal"]:
        yield 0, axis
        if node.get_input_size() > 3:
            yield 3, axis - len(shape) + len(node.get_input_partial_shape(3))
    elif kind == "Transpose" and (order := _constant(node, 1)):
        yield 0, order[axis]
    elif kind == "Reshape" and (pattern := _constant(node, 1)) and pattern[axis] in (0, -1):
        # What is behind the axis is split or joined, and the axis stays.
        sizes = [list(map(_static, list(whole)[axis + 1 :])) for whole in (node.get_input_partial_shape(0), shape)]
        if all(size is not None for tail in sizes for size in tail) and math.prod(sizes[0]) == math.prod(sizes[1]):
            yield 0, axis


def _constant(node: openvino.Node, number: int) -> list[int] | None:
    """The numbers in an input of a node, if that is a constant."""
    source = node.input_value(number).get_node()
    return source.get_data().ravel().tolist() if source.get_type_name() == "Constant" else None


def _static(size: openvino.Dimension) -> int | None:
    return size.get_length() if size.is_static else None
