"""From samples to ranges: observing a float network, choosing scales and zero points."""
