"""From bytes to a checked model: limits, structure, tensors, operators, files beside it."""
