"""What a run gives, as data: results, verdicts, energies, manifests; written, read back, checked, compared.

Nothing here computes a result; reports and regression tests stand on this room alone.
"""
