"""The documents: what they say is what runs."""
