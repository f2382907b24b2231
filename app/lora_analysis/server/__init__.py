"""The REST server behind ``lora serve``: it translates requests to use cases, and keeps a catalog and a queue of jobs.

::

    settings, roots, database  <-  catalog  <-  work      in the worker processes: no web framework there
                                   catalog  <-  jobs      the queue, and the processes that empty it
                                   auth, schemas, routes  <-  app  <-  serving

Nothing is loaded by importing this package.
"""
