"""Are the bars right? A recomputation in pandas that owes nothing to the SQL, checks and their results, repair.

Does not belong here: Dagster's check evaluations (orchestration).
"""
