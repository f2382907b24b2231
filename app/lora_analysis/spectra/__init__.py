"""Spectra: the singular values of every layer, what they say, and their forms for other programs.

Import the modules: only ``layer`` and ``export`` load numpy.
"""
