"""One file a scenario.

Each says what it measures (TITLE, UNIT, whether LESS is better), which kinds of jobs a contender
must have for it (KINDS), and measures one contender once: `measure` returns a figure for each variant.
"""
