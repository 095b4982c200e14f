"""What codes are asked for besides giving their item back: one idea a file, each with its paper.

All take logits or drawn bits `(B, bits)` and give a scalar; `hashing` puts them together for the hashing families.
"""
