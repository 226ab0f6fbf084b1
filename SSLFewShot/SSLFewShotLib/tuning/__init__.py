"""Fine-tuning: a pretrained network learns to segment from the scans that a user has marked."""
