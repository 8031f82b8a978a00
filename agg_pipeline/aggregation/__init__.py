"""A tick without Dagster: selection and execution of tasks, outcomes and totals of a run, backfill of a range.

Does not belong here: Dagster (orchestration), and the content of a bar (the database functions).
"""
