"""A whole adapter on one HTML page: facts, findings, spectra, figures, and what rank it seems to need."""
