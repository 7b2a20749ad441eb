"""The command line: one module per command, options they share, errors and exit codes. Computes nothing."""
