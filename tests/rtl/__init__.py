"""The array, its controller and the requantiser in SystemVerilog, against the project's model."""
