"""Training a click model: settings, presets, optimizers, step, loop, evaluation."""
