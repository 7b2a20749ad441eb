"""Post-training quantisation in front of the machine: from a float ONNX model to Q/DQ, and what that costs and loses.

On top of onnxruntime.quantization where it does the job (which tensors get a quantiser, percentile and entropy
calibration); ours where it does not: other ranges, 2 bits, groups, bias correction, equalisation, errors taken apart.
"""
