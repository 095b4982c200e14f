"""Encoding in several processes: what an ingest of many items costs, apart from the one writer that stores them."""
