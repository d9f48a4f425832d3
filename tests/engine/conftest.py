from hypothesis import settings

# A busy machine is no fault of the rules.
settings.register_profile("dbq", deadline=None)
settings.load_profile("dbq")
