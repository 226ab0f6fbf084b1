"""Self-supervised tasks, one file each, and one trainer for all of them."""
