"""Factored linear algebra. Values in, values out: nothing here knows a path, a file or a tensor's name.

Import the modules (``from ..linalg import products``); they load numpy.
"""
