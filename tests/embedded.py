"""The tests' PostgreSQL is the example's: started from PyPI, private to one process."""

from example.embedded import start_postgresql

__all__ = ["start_postgresql"]
