"""Access to the database: models of its JSON, the gateway, the transports, migrations, partitioning.

Does not belong here: when a function is called, and what its result means for a run (aggregation).
"""
