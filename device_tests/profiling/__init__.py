"""One profile: bundle + device → report."""
