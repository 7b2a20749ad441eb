"""Methods that change a network before or after its weights are rounded: one file each."""
