"""The science of attribution by unlearning: tensors in, tensors out, and nothing of ours imported.

Read in this order: `types`, `noise`, `measure` (what is measured), `hooks`, `gradients`, `projection`, `curvature` (the
first order), `unlearn` (the finite step), `influence`, `calibrate` (songs), `reliability` (how far to believe an
answer), `evaluate` (whether it is true).
"""
