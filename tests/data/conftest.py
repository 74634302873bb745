from hypothesis import settings

# The machine may be busy: time says nothing about a test here, and a run must give what the last one gave.
settings.register_profile("data", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("data")
