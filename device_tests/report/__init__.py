"""What a profile says, as a document for machines, a page, and a view for terminals."""
