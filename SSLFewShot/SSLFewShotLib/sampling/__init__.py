"""From a scan in physical space to the patches that a network sees. Torch starts here."""
