"""How well codes retrieve: protocols, rankings by Hamming distance with their ties, and what is held against them.

`protocol` says what is searched for in what, `ranking` turns distances into precision, recall and average precision,
`oversampling` finds the nearest of the float input again among codes, `exact` ranks by the input itself, which no code
can know more than, `lsa` makes vectors of texts for the baselines, and `judge` puts a model through all of it.
"""
