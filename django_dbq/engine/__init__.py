"""The rules. Pure functions and values: no Django, no clock, no input or output."""
