"""Thin facades, for projects that come from other packages."""
