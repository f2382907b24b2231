"""One kind of axes per file; :mod:`lora_analysis.plots` names the functions."""
