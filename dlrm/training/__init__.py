"""Training a click model: settings, optimizers, the loop, evaluation."""
