"""The page of one result or of several: questions, tables, charts, in one file."""
