"""The machine: one validated, frozen description, and tables of what its units cost. Knows no network and no plan."""
