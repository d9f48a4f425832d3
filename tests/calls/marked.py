"""A module whose import shows: it then stands in sys.modules."""


def function(*args, **kwargs):
    return [list(args), kwargs]


def another(*args, **kwargs):
    return "another"
