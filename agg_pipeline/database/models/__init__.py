"""JSON of the database functions as frozen models, validated once. Times are aware UTC; counts are windows or bars.

Does not belong here: calls (gateway), and rules of a run (aggregation).
"""
