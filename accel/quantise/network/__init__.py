"""The float network: read, tidied, edited, indexed."""
