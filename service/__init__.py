"""HTTP, jobs and the command line: the only package that knows FastAPI."""

__version__ = "0.1.0"
