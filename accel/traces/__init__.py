"""What the event model recorded, for people and other tools: Perfetto, VCD, pictures, DRAM accesses."""
