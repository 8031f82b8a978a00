"""JSON of the database functions as frozen models, validated once. Times are aware UTC; counts are windows or bars.

Does not belong here: calls (gateway), and rules that only a run needs (aggregation).
"""
