"""The machine as a discrete-event model on SimPy: engines, tokens, banks and DMA channels at the granularity of tiles.

An execution of the timing contract of its own: nothing here calls the recurrence in accelsim.kernels.
"""
