"""The queue of jobs, the worker processes that empty it, and the events that tell about both."""
