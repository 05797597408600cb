"""What holds for all tests."""

from hypothesis import HealthCheck, settings

from workers import memory

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")  # no test is judged by its time: a busy machine is no defect
memory.poisons = True  # what is read before it was written is NaN or -1
