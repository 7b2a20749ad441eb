"""The verdict, its words, and why an element differs."""
