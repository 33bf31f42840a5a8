"""Segmentation of slumps: models, training, ensembles, prediction (Ganerod et al. 2024)."""
