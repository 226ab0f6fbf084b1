"""Finding the object in a scan, as a box: from a marked scan, or without any mark."""
