"""Speculative decoding: several tokens are guessed and checked in one call of the artifact.

Each token is chosen from its own row of logits by the same sampler, and a guess is only kept where
it is the token that was chosen. docs/speculation.md says what can differ all the same.
"""
