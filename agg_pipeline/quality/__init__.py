"""Correctness of bars: a recomputation in pandas that is independent of the SQL, checks and their results, repair.

Does not belong here: Dagster's check evaluations (orchestration).
"""
