"""What people decide: the inventory, its candidates, the review and the rounds."""
