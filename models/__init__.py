"""Model definitions: from a published config to a Decoder."""
