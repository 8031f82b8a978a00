"""The process supervisor: starts services, restarts a service that ends, stops all of them when its owner ends.

It is a process of its own, because end of file on its standard input reports the end of the owner on every POSIX
system, after kill -9 too. A parent-death signal sent straight from the owner to the services would fire as soon as
the *thread* that started them ends.

``__main__``, ``main``, ``loop``, ``service`` and ``orphans`` run in that process. They import the standard library,
each other and ``protocol`` only, so that the supervisor starts within 50 ms, whatever is installed. ``client`` is the
owner's side.

Does not belong here: which services there are, and how they are configured (agg_pipeline.embedded).
"""
