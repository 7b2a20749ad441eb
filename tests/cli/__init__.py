"""The command line: options, inputs, output files, streams and exit codes."""
