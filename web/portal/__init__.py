"""The recipient's portal: the pages of one letter."""
