"""Checkpoint and bytes → a recipe that spends them where the KL divergence falls most."""
