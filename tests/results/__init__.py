"""Results as data: what they keep, written and read back."""
