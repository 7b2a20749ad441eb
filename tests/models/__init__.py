"""Networks that we build ourselves, and networks that other tools trained."""
