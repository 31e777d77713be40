"""Policies in whole numbers, for devices without a runtime.

`float_layers` takes a policy apart, `calibration` runs it on real observations, `quantisation` puts
it into whole numbers, `integer_network` computes with these in NumPy, and `c_source` writes a
program that computes the same, bit for bit; `c_compiler` runs it to see.
"""
