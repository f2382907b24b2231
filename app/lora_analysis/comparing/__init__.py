"""How adapters of one base model lie to each other: cosines, subspaces, differences, lineage.

Import the modules: only ``layer`` loads numpy.
"""
