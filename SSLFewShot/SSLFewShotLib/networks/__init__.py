"""The torch modules, one file a published architecture."""
