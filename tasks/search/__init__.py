"""The search for hyperparameters: one study, which several workers may share."""
