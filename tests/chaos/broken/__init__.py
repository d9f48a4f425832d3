"""Modules that do not import, for P3."""
