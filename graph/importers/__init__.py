"""From nodes to typed operators of the machine: one module per kind of operator."""
