"""Publishing: the model card, what may be told, and the upload."""
