"""Speculative decoding: several tokens are guessed and checked in one call of the artifact.

The tokens that come out are those that would have come out without it: each is chosen from its own
row of logits by the same sampler, and a guess is only kept where it is the token that was chosen.
"""
