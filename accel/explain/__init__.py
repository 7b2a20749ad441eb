"""What `accel-sim explain` says of a layer: its operands, its plan, what binds it."""
