"""Training of the nano model: `python -m nano_omni.training.run --config cpu|gpu --out DIR`."""
