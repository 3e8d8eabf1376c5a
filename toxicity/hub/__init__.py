"""Publishing on the Hugging Face Hub: model card, redaction of local paths and tokens, upload."""
