"""The processes: what claims, runs and records jobs."""
