"""The local trainer: segmentation ensembles and susceptibility models (nothing here needs ee)."""
