"""What is drawn of what the event model recorded: Perfetto, VCD, pictures, DRAM accesses, on one time axis."""
