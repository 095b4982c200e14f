"""Model families that turn items into binary codes, one trainer, one artefact format, one registry.

Knows neither the index nor HTTP.
"""
