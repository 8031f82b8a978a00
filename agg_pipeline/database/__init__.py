"""The border to the database: models of what crosses it, the gateway, the transports, migrations, partitions.

Does not belong here: when a function is called, and what its answer means for a run.
"""
