"""Floor 5: trained policies as SavedModels."""
